"""Every figure, table and ablation, with the same flags; runs that several need are run once."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from reproductions.reproduction import Reproduction
from reproductions.run import reproduce

KINDS = ("fig_*.py", "table_*.py", "ablation_*.py")


def discover() -> list[Reproduction]:
    """Return what each script of this folder makes, in alphabetical order within its kind."""
    folder = Path(__file__).parent
    names = [path.stem for kind in KINDS for path in sorted(folder.glob(kind))]
    return [import_module(f"reproductions.{name}").REPRODUCTION for name in names]


if __name__ == "__main__":
    reproduce(*discover())
