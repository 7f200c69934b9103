"""Which runs are complete; and moving many of them into one file per table. Imports no torch.

The files of its own that each run has make a sweep safe to interrupt, and slow to read by the
thousand.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from bench.errors import UserError
from bench.records import checked, foreign, store
from bench.records.marker import mark
from bench.records.merge import write
from bench.records.schemas import SCHEMAS

MOST_SEPARATE = 256  # runs with files of their own: a few seconds to read
NEVER_EMPTY = ("runs", "evals")  # a run is evaluated before its first update


def incomplete(results_dir: Path, run_ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the runs that are missing or damaged, and a warning for each damaged one.

    Raises:
        UserError: a file was written by another schema version, or one of many runs is damaged.
    """
    separate, compacted = set(store.separate(results_dir)), _compacted(results_dir)
    missing = []
    warnings = [*foreign.name(results_dir, foreign.misnamed(results_dir))]
    for run_id in run_ids:
        if run_id in separate:
            try:
                _tables(results_dir, run_id)
            except store.OtherVersionError:
                raise
            except UserError as error:
                warnings.append(str(error))
                missing.append(run_id)
        elif run_id not in compacted:
            missing.append(run_id)
    return missing, warnings


def _tables(results_dir: Path, run_id: str) -> dict[str, pa.Table]:
    """Return a run's tables from its own files.

    Raises:
        UserError: one is missing, damaged, empty or of another schema version.
    """
    found = {}
    for table in SCHEMAS:
        path = results_dir / table / f"{run_id}.parquet"
        try:
            found[table] = store.load(path, table)
        except store.OtherVersionError:
            raise
        except UserError:
            found[table] = None
        if found[table] is None or (not len(found[table]) and table in NEVER_EMPTY):
            raise UserError(f"{path} is missing or damaged: its run is repeated")
        if table == "runs" and not foreign.own(found[table]):
            raise UserError(f"{path} was changed by hand: its run is repeated")
    return found


def _compacted(results_dir: Path) -> set[str]:
    """Return the runs in the files of many, every page of which is checked.

    Raises:
        UserError: such a file is missing, damaged or of another schema version.
    """
    if not store.single(results_dir, "runs").exists():
        return set()
    runs = store.load(store.single(results_dir, "runs"), "runs")
    found = foreign.own(runs) & _ids(results_dir, "evals")
    for table in SCHEMAS:
        if table not in NEVER_EMPTY:  # read above
            _ids(results_dir, table)
    return found


def _ids(results_dir: Path, table: str) -> set[str]:
    """Return the runs that have rows in a file of many, every page of which is checked."""
    path = store.single(results_dir, table)
    ids = store.load(path, table, ["run_id"])["run_id"]
    if path.exists() and not checked.has_checksum(path):  # of all its pages: each has its own
        store.load(path, table)
    return set(pc.unique(ids).to_pylist())


def compact(results_dir: Path) -> None:
    """Move the runs that have files of their own into one file per table, if they are many.

    To be called under the lock of a sweep. It may be interrupted: a run's own files are deleted
    when the other ones hold it, and until then it is read from its own. A damaged run stays.

    Raises:
        UserError: a file cannot be read, written or deleted; no run is lost.
    """
    separate = store.separate(results_dir)
    if len(separate) <= MOST_SEPARATE:
        return
    added: dict[str, dict[str, pa.Table]] = {table: {} for table in SCHEMAS}
    stay = set()
    for run_id in separate:
        try:
            tables = _tables(results_dir, run_id)
        except UserError:  # said to those who ask for this run
            stay.add(run_id)
            continue
        for table, rows in tables.items():
            added[table][run_id] = rows
    mark(results_dir)  # an older directory was known by the files that go now
    write(added, results_dir)
    compacted = store.load(store.single(results_dir, "runs"), "runs", ["run_id"])["run_id"]
    _delete(results_dir, set(compacted.to_pylist()) - stay)


def _delete(results_dir: Path, run_ids: Collection[str]) -> None:
    """Delete the own files of runs, also those that an interrupted call has left."""
    try:
        descriptor = os.open(results_dir, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # the files that hold them now have their names on disk
        finally:
            os.close(descriptor)
        for table in SCHEMAS:  # ``runs`` first: what is left of a run without it is not read
            for path in (results_dir / table).glob("*.parquet"):
                if path.stem in run_ids:
                    path.unlink()
    except OSError as error:
        raise UserError(f"cannot delete {error.filename}: {error.strerror}") from error
