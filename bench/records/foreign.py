"""What is among a results directory's runs and is none of them. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pyarrow as pa

from bench.identity import digest
from bench.records import store

IDENTITY = ["run_id", "config_hash", "config_json", "weights_digest", "seed"]  # columns of ``runs``


def own(runs: pa.Table) -> set[str]:
    """Return the ids that are those of their row's configuration, weights and seed.

    Of a row that was changed by hand, or is another suite's, it is not.
    """
    return {row["run_id"] for row in runs.select(IDENTITY).to_pylist() if _is_run(**row)}


def read_runs(results_dir: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return table ``runs``, and a line that names what is there and is no run, if anything is.

    Raises:
        UserError: see ``store.read``.
    """
    found = store.read_arrow(results_dir, "runs")
    kept = own(found)
    frame = found.to_pandas()
    return frame[frame["run_id"].isin(kept)], name(
        results_dir, [*misnamed(results_dir), *(set(frame["run_id"]) - kept)]
    )


def misnamed(results_dir: Path) -> list[str]:
    """Return the files among the runs that are not called as a run is."""
    paths = (results_dir / "runs").glob("*.parquet")
    return [path.name for path in paths if store.RUN_ID.fullmatch(path.stem) is None]


def name(results_dir: Path, strangers: Collection[str]) -> tuple[str, ...]:
    """Return the line that names strangers, if there are any."""
    if not strangers:
        return ()
    more = f" and {len(strangers) - 4} more" if len(strangers) > 4 else ""
    return (
        f"Left out: {len(strangers)} in {results_dir}/runs that are no runs of this suite, or were "
        f"changed: {', '.join(sorted(strangers)[:4])}{more}",
    )


def _is_run(
    run_id: str, config_hash: str, config_json: str | None, weights_digest: str, seed: int
) -> bool:
    cell, start = _hashes(config_json, weights_digest)
    return (run_id, config_hash) == (f"{start}-s{seed}", cell)


@lru_cache(maxsize=1024)
def _hashes(config_json: str | None, weights_digest: str) -> tuple[str, str]:
    """Return the hash of a cell, and that of the cell and its weights."""
    try:
        cell = json.loads(config_json or "")
    except ValueError:
        return "", ""
    return digest(cell), digest([cell, weights_digest])
