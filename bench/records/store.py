"""Parquet tables with fixed schemas: written under a temporary name, then renamed.

A table of a results directory is a folder with one file per run (``runs/<run_id>.parquet``), or one
file of many runs (``runs.parquet``: a committed record, or runs that ``bench.records.compact`` put
together), or both. Readers take both; a run that is in both is that of its own files. The ``runs``
row of a run is written last, so its presence means that the run is complete. Imports no torch.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bench.config import RunConfig
from bench.errors import UserError
from bench.records import checked
from bench.records.schemas import OPTIONAL, SCHEMAS, RunRow, by_run, conform, in_order
from bench.types import RunResult, Timed

SCHEMA_VERSION = 2
RUN_ID = re.compile(r"[0-9a-f]{12}-s[0-9]+")


class OtherVersionError(UserError):
    """A file of another schema version."""


def write_run(
    results_dir: Path,
    config: RunConfig,
    result: RunResult,
    *,
    preset: str,
    weights_digest: str,
    sft_digest: str | None = None,
    timed: Timed | None = None,
    source: str = "inline",
    provenance: Mapping[str, Any],
) -> str:
    """Write one finished run, one file per table, ``runs`` last; return its ``run_id``.

    Raises:
        UserError: the files cannot be written (no space left, not permitted).
    """
    run_id = config.run_id(weights_digest)
    run = RunRow(
        config_hash=config.config_hash(),
        config_json=json.dumps(config.cell(), sort_keys=True),
        preset=preset,
        task=config.stage.task.name,
        model=config.stage.model,
        algorithm=config.algorithm.name,
        schedule=str(config.schedule),
        schedule_kind=config.schedule.kind,
        n=config.schedule.n,
        lr_schedule=config.lr_schedule,
        old_logprobs=config.algorithm.old_logprobs,
        learning_rate=config.learning_rate,
        updates=config.updates,
        split=config.evaluation.split,
        engine=config.engine,
        source=source,
        timed=timed,
        seed=config.seed,
        status=result.status,
        diverged_at=result.diverged_at,
        wall_s=result.wall_s,
        weights_digest=weights_digest,
        sft_digest=sft_digest,
        schema_version=SCHEMA_VERSION,
        **provenance,
    )
    rows: dict[str, Sequence[Any]] = {
        "steps": result.steps,
        "evals": result.evals,
        "samples": result.samples,
        "outcomes": result.outcomes,
        "spans": result.spans,
        "runs": [run],
    }
    for table, records in rows.items():
        path = results_dir / table / f"{run_id}.parquet"
        write_table(path, table, [{"run_id": run_id, **asdict(record)} for record in records])
    return run_id


def write_table(path: Path, table: str, rows: list[dict[str, Any]]) -> None:
    """Write rows as one Parquet file of a known table, atomically.

    Raises:
        UserError: the file cannot be written.
        pyarrow.ArrowInvalid: a row does not fit the table's schema.
    """
    write_arrow(path, pa.Table.from_pylist(rows, schema=SCHEMAS[table]))


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write a table; see ``write_bytes``."""
    metadata = {**(table.schema.metadata or {}), b"schema_version": str(SCHEMA_VERSION).encode()}
    write_bytes(path, checked.encode(table.replace_schema_metadata(metadata)))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to disk and rename it.

    Raises:
        UserError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"no space left to write {path}; finished runs are safe, "
                "free some space and give the same command again"
            ) from error
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def check_writable(directory: Path) -> None:
    """Create a directory and a file in it.

    Raises:
        UserError: either cannot be done.
    """
    probe = directory / f".writable-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"results directory {directory} is not writable: {error.strerror}; choose another "
            "with --out"
        ) from error


def has_runs(results_dir: Path) -> bool:
    """Say whether a directory holds any run, in files of its own or together with others."""
    return single(results_dir, "runs").exists() or bool(separate(results_dir))


def single(results_dir: Path, table: str) -> Path:
    """Return the file that holds many runs."""
    return results_dir / f"{table}.parquet"


def separate(results_dir: Path) -> list[str]:
    """Return the ids of the complete runs that have files of their own, in order."""
    names = (path.stem for path in (results_dir / "runs").glob("*.parquet"))
    return sorted(name for name in names if RUN_ID.fullmatch(name))


def read(
    results_dir: Path,
    table: str,
    run_ids: Collection[str] | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return a table of all complete runs, or of some, ordered by ``run_id``, then as written.

    Args:
        results_dir: a results directory.
        table: its name.
        run_ids: those to read; None: all.
        columns: those to read, ``run_id`` among them; None: all.

    Raises:
        UserError: there are no results, or a file is missing, damaged or of another schema
            version.
    """
    found: pd.DataFrame = read_arrow(results_dir, table, run_ids, columns).to_pandas(
        maps_as_pydicts="strict"
    )
    return found


def read_arrow(
    results_dir: Path,
    table: str,
    run_ids: Collection[str] | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Return the same as ``read``, as an Arrow table. Raises the same errors."""
    if not (results_dir / "runs").is_dir() and not has_runs(results_dir):
        raise UserError(f"no results in {results_dir}: neither runs/ nor runs.parquet")
    wanted = None if run_ids is None else set(run_ids)
    own = {}
    for run_id in filter(lambda name: wanted is None or name in wanted, separate(results_dir)):
        complete = results_dir / "runs" / f"{run_id}.parquet"
        try:
            found = load(results_dir / table / f"{run_id}.parquet", table, columns)
        except UserError:
            if complete.exists():
                raise
            continue
        if complete.exists():  # else a sweep compacted it meanwhile: it is in what is read next
            own[run_id] = found
    rows = by_run(compacted(results_dir, table, columns)) | own
    if wanted is not None:
        rows = {run_id: rows[run_id] for run_id in wanted & rows.keys()}
    return in_order(rows, _schema(table, columns))


def compacted(results_dir: Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of the complete runs in a table's one file; none if there are no such runs.

    Raises:
        UserError: a file is missing, damaged or of another schema version.
    """
    runs = single(results_dir, "runs")
    if not runs.exists():
        return _schema(table, columns).empty_table()
    complete = load(runs, "runs", ["run_id"])["run_id"]  # first: it is written last
    found = load(single(results_dir, table), table, columns)
    return found.filter(pc.is_in(found["run_id"], complete.combine_chunks()))


def load(path: Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one file of a table, or some of its columns, and check it.

    Raises:
        UserError: the file is damaged, of other columns or another schema version, or missing.
    """
    repair = "delete it and the run is repeated"
    if path.parent.name != table:
        runs = path.with_name("runs.parquet")
        repair = f"restore it from version control or a backup, or delete {runs} and its "
        repair += "runs are repeated"
    if not path.exists():
        if table in OPTIONAL and not _made_since(path, table):
            return _schema(table, columns).empty_table()
        raise UserError(f"{path} is missing although its run is recorded: {repair}")
    found = read_file(
        path, columns, repair=repair, replace="move it away, or rebuild the results with --fresh"
    )
    try:
        found = conform(found, _schema(table, columns))
    except ValueError:
        raise _damaged(path, repair) from None
    if path.parent.name == table and set(pc.unique(found["run_id"]).to_pylist()) - {path.stem}:
        raise UserError(f"{path} has rows of another run: {repair}")
    return found


def _made_since(path: Path, table: str) -> bool:
    """Return whether runs of a file are of the time since there are optional tables."""
    separate = path.parent.name == table
    runs = path.parents[1] / "runs" / path.name if separate else path.with_name("runs.parquet")
    return runs.exists() and len(load(runs, "runs", ["run_id", "sft_digest"]).drop_null()) > 0


def _schema(table: str, columns: Sequence[str] | None) -> pa.Schema:
    whole = SCHEMAS[table]
    return whole if columns is None else pa.schema([whole.field(name) for name in columns])


def read_file(
    path: Path, columns: Sequence[str] | None = None, *, repair: str, replace: str
) -> pa.Table:
    """Read a file of this schema version; ``repair`` and ``replace`` say what to do about others.

    Raises:
        UserError: the file is damaged or of another schema version.
    """
    try:
        with pa.memory_map(str(path)) as file:  # what is read of hundreds of megabytes is little
            found = checked.decode(file.read_buffer(), columns)
        version = (found.schema.metadata or {}).get(b"schema_version", b"unknown").decode()
    except (pa.ArrowException, OSError, ValueError):
        raise _damaged(path, repair) from None
    if version != str(SCHEMA_VERSION):
        raise OtherVersionError(
            f"{path} was written by schema version {version}, this suite reads version "
            f"{SCHEMA_VERSION}: {replace}"
        )
    return found


def _damaged(path: Path, repair: str) -> UserError:
    return UserError(f"{path} is a truncated or damaged Parquet file: {repair}")
