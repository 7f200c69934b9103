"""Flags that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench import paths
from bench.algorithms import ALGORITHMS
from bench.errors import UserError
from bench.experiments.presets import ORDER
from bench.tasks import TASKS


def names(text: str) -> tuple[str, ...]:
    """Read algorithms with commas between them.

    Raises:
        argparse.ArgumentTypeError: one is not known.
    """
    found = tuple(text.split(","))
    for name in found:
        if name not in ALGORITHMS:
            raise argparse.ArgumentTypeError(f"{name!r}: allowed are {', '.join(ALGORITHMS)}")
    return found


def directory(text: str) -> Path:
    """Read a path, which need not exist.

    Raises:
        argparse.ArgumentTypeError: it is empty, or none that the system allows.
    """
    if not text:
        raise argparse.ArgumentTypeError("'': name a directory, . for this one")
    try:
        Path(text, "name").stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # said where it is used
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise argparse.ArgumentTypeError(f"{text[:80]!r}: is no path: {reason}") from None
    return Path(text)


MAX_WORKERS = 1024

FLAGS: dict[str, dict[str, Any]] = {
    "--preset": {"default": "tiny", "help": f"{', '.join(ORDER)} (default: tiny)"},
    "--task": {"help": f"in place of the preset's own: {', '.join(TASKS)}"},
    "--workers": {
        "type": int,
        "help": "processes at a time (default: as many as GPUs allow; without any one per core)",
    },
    "--out": {"type": directory, "help": "results directory (default: results/<preset>)"},
    "--hub-dir": {"type": directory, "help": "read <owner>/<name> from here, download nothing"},
}


def add_flags(parser: argparse.ArgumentParser, *flags: str) -> None:
    """Add some of ``FLAGS`` to a parser."""
    for flag in flags:
        parser.add_argument(flag, **FLAGS[flag])


def check_workers(workers: int | None) -> None:
    """Refuse a number of processes below 1 or above 1024.

    Raises:
        UserError: it is below 1 or above 1024.
    """
    if workers is None:
        return
    if workers < 1:
        raise UserError(f"--workers {workers}: must be at least 1")
    if workers > MAX_WORKERS:
        raise UserError(f"--workers {str(workers)[:20]}: must be at most {MAX_WORKERS}")


def refuse_records(results_dir: Path) -> None:
    """Refuse to put anything new among recorded runs.

    Raises:
        UserError: the directory holds them.
    """
    if results_dir.resolve().is_relative_to(paths.RECORDS):
        raise UserError(f"--out {results_dir}: holds recorded runs; choose another directory")
