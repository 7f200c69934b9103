"""Parquet tables with fixed schemas: written under a temporary name, then renamed.

A table of a results directory is either a folder with one file per run (``runs/<run_id>.parquet``,
while a sweep goes on) or one file (``runs.parquet``, a committed record). Readers take both. The
``runs`` row of a run is written last, so its presence means that the run is complete.
Imports no torch.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.config import RunConfig
from bench.errors import UserError
from bench.records.schemas import RunRow, conform, schema_of
from bench.types import EvalRecord, RunResult, Sample, Span, StepRecord, Timed

SCHEMA_VERSION = 2

SCHEMAS = {
    "runs": schema_of(RunRow),
    "steps": schema_of(StepRecord),
    "evals": schema_of(EvalRecord),
    "samples": schema_of(Sample),
    "spans": schema_of(Span),
}


NEVER_EMPTY = ("runs", "evals")  # a run is evaluated before its first update


def write_run(
    results_dir: Path,
    config: RunConfig,
    result: RunResult,
    *,
    preset: str,
    weights_digest: str,
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
        schema_version=SCHEMA_VERSION,
        **provenance,
    )
    rows: dict[str, Sequence[Any]] = {
        "steps": result.steps,
        "evals": result.evals,
        "samples": result.samples,
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
    buffer = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(metadata),
        buffer,
        compression="zstd",
        write_page_checksum=True,
    )
    write_bytes(path, buffer.getvalue())


def write_bytes(path: Path, content: bytes | pa.Buffer) -> None:
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
    """Say whether a directory holds any run, per-run files or a record."""
    return (results_dir / "runs.parquet").exists() or any((results_dir / "runs").glob("*.parquet"))


def read(results_dir: Path, table: str, run_ids: Collection[str] | None = None) -> pd.DataFrame:
    """Return a table of all complete runs, or of some, ordered by ``run_id``, then as written.

    Raises:
        UserError: there are no results, or a file is missing, damaged or of another schema
            version.
    """
    found = read_arrow(results_dir, table, run_ids)
    frame: pd.DataFrame = found.to_pandas(maps_as_pydicts="strict")
    return frame


def read_arrow(results_dir: Path, table: str, run_ids: Collection[str] | None = None) -> pa.Table:
    """Return the same as ``read``, as an Arrow table. Raises the same errors."""
    single = results_dir / f"{table}.parquet"
    if (results_dir / "runs").is_dir():
        complete = sorted(path.stem for path in (results_dir / "runs").glob("*.parquet"))
        chosen = complete if run_ids is None else sorted(set(complete) & set(run_ids))
        parts = [load(results_dir / table / f"{run_id}.parquet", table) for run_id in chosen]
        return pa.concat_tables([SCHEMAS[table].empty_table(), *parts])
    if not single.exists():
        raise UserError(f"no results in {results_dir}: neither runs/ nor {single.name}")
    found = load(single, table)
    if run_ids is None:
        return found
    return found.filter(pc.is_in(found["run_id"], pa.array(list(run_ids), pa.string())))


def load(path: Path, table: str) -> pa.Table:
    """Read one file of a table and check it.

    Raises:
        UserError: the file is missing, damaged, of another schema version or of other columns.
    """
    repair = (
        "delete it and the run is repeated"
        if path.parent.name == table
        else "restore it from version control"
    )
    if not path.exists():
        raise UserError(f"{path} is missing although its run is recorded: {repair}")
    found = read_file(
        path, repair=repair, replace="move it away, or rebuild the results with --fresh"
    )
    try:
        return conform(found, SCHEMAS[table])
    except ValueError:
        raise _damaged(path, repair) from None


def read_file(path: Path, *, repair: str, replace: str) -> pa.Table:
    """Read a file of this schema version; ``repair`` and ``replace`` say what to do about others.

    Raises:
        UserError: the file is damaged or of another schema version.
    """
    try:
        found = pq.ParquetFile(path, page_checksum_verification=True).read()
        version = (found.schema.metadata or {}).get(b"schema_version", b"unknown").decode()
    except (pa.ArrowException, OSError, ValueError):
        raise _damaged(path, repair) from None
    if version != str(SCHEMA_VERSION):
        raise UserError(
            f"{path} was written by schema version {version}, this suite reads version "
            f"{SCHEMA_VERSION}: {replace}"
        )
    return found


def _damaged(path: Path, repair: str) -> UserError:
    return UserError(f"{path} is a truncated or damaged Parquet file: {repair}")


def incomplete(results_dir: Path, run_ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the runs that are missing or damaged, and a warning for each damaged one.

    Raises:
        UserError: a file was written by another schema version.
    """
    missing, warnings = [], []
    for run_id in run_ids:
        if not (results_dir / "runs" / f"{run_id}.parquet").exists():
            missing.append(run_id)
            continue
        for table in SCHEMAS:
            path = results_dir / table / f"{run_id}.parquet"
            try:
                if not len(load(path, table)) and table in NEVER_EMPTY:
                    raise UserError(f"{path} has no rows")
            except UserError as error:
                if "schema version" in str(error):
                    raise
                warnings.append(f"{path} is missing or damaged: its run is repeated")
                missing.append(run_id)
                break
    return missing, warnings
