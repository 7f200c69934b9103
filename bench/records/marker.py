"""The file by which a results directory is known to be the suite's. Imports no torch."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.records import store
from bench.records.provenance import package_version

MARKER = ".async-rlhf-bench"
PACKAGE = "async-rlhf-bench"
RUN_ID = re.compile(r"[0-9a-f]{12}-s[0-9]+")


def mark(results_dir: Path) -> None:
    """Write the marker unless it is there.

    Raises:
        UserError: it cannot be written.
    """
    path = results_dir / MARKER
    if path.exists():
        return
    made_by = f"{PACKAGE} {package_version(PACKAGE) or 'unknown'}"
    content = {"schema_version": store.SCHEMA_VERSION, "made_by": made_by}
    store.write_bytes(path, f"{json.dumps(content)}\n".encode())


def is_marked(results_dir: Path) -> bool:
    """Say whether a directory is the suite's.

    It has the marker or, where it was made before there was one, the lock of a sweep and a finished
    run of any schema version.
    """
    if (results_dir / MARKER).is_file():
        return True
    runs = (results_dir / "runs").glob("*.parquet")
    return (results_dir / ".lock").is_file() and any(map(_is_run, runs))


def _is_run(path: Path) -> bool:
    if RUN_ID.fullmatch(path.stem) is None:
        return False
    try:
        return b"schema_version" in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError, ValueError):
        return False
