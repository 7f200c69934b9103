"""Every figure, table and ablation, with the same flags; runs that several need are run once.

All of it is written as one page, report.html in the results directory.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

from importlib import import_module
from pathlib import Path

from reproductions.fresh import SCRIPTS
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce


def discover() -> list[Reproduction]:
    """Return what each script of this folder makes, in alphabetical order within its kind."""
    folder = Path(__file__).parent
    names = [path.stem for kind in SCRIPTS for path in sorted(folder.glob(kind))]
    return [import_module(f"reproductions.{name}").REPRODUCTION for name in names]


if __name__ == "__main__":
    reproduce(*discover(), page=True)
