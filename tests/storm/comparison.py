"""What must be as if nothing had happened: the numbers, and what lies about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.paths import UNFINISHED
from bench.processes.shared_memory import RunDirectory
from bench.records import store
from bench.records.marker import MARKER

from .scenarios import Reference

TABLES = ("evals", "steps", "samples", "outcomes")
HIDDEN = (".lock", MARKER)  # what is meant to be there


def changed_numbers(reference: Reference, results: Path) -> int:
    """Return how many stored values differ from the reference's, seconds excepted."""
    count = 0
    for table in TABLES:
        expected = list(_values(reference.results / reference.scenario.tables, table))
        found = list(_values(results / reference.scenario.tables, table))
        count += abs(len(expected) - len(found))
        count += sum(left != right for left, right in zip(expected, found, strict=False))
    return count


def _values(results: Path, table: str) -> Iterator[tuple[str, str]]:
    """Yield each value with its name, as text that no two floats share."""
    for row in store.read(results, table).to_dict("records"):
        for name, value in row.items():
            items = value.items() if isinstance(value, dict) else [("", value)]
            for key, one in items:
                if not f"{name}{key}".endswith("_s"):
                    yield f"{row['run_id']} {name} {key}", _text(one)


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, float) else repr(value)


def files_left(results: Path, temporary: Path, run_directories: set[Path]) -> list[Path]:
    """Return what is left after a finished command, and after the next run has started.

    Args:
        results: its results directory.
        temporary: its directory of temporary files.
        run_directories: those in shared memory that its processes had.
    """
    for root in (None, temporary):
        RunDirectory(root).close()  # as the next run does: it removes what nobody is left to remove
    hidden = [path for path in results.rglob(".*") if path.name not in HIDDEN]
    return [
        *hidden,
        *results.glob(f"**/{UNFINISHED}/*"),
        *temporary.iterdir(),
        *(path for path in run_directories if path.exists()),
    ]
