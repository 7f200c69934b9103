"""The file by which a results directory is known to be the suite's. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.records import store
from bench.records.provenance import now_utc, package_version

MARKER = ".async-rlhf-bench"
PACKAGE = "async-rlhf-bench"
CODE = ("git_revision", "git_dirty", "python", "torch", "transformers", "trl")


def mark(results_dir: Path) -> None:
    """Write the marker unless it is there.

    Raises:
        UserError: it cannot be written.
    """
    if not (results_dir / MARKER).exists():
        _write(results_dir, _content(results_dir))


def mark_made_by(results_dir: Path, code: Mapping[str, Any], weights: Mapping[str, str]) -> None:
    """Write into the marker what code adds runs now, and from which weights, unless it says so.

    Args:
        results_dir: a results directory.
        code: columns of table ``runs``, ``CODE`` among them.
        weights: digests of the SFT and reward models, by task and model.

    Raises:
        UserError: it cannot be written.
    """
    content = _content(results_dir)
    entry = {**{name: code.get(name) for name in CODE}, "weights": dict(sorted(weights.items()))}
    entries = content.setdefault("runs_made_by", [])
    if any({**one, "since_utc": None} == {**entry, "since_utc": None} for one in entries):
        return
    entries.append({"since_utc": now_utc(), **entry})
    _write(results_dir, content)


def _content(results_dir: Path) -> dict[str, Any]:
    """Return what the marker says; what a new one says, if it is not there or not readable."""
    with suppress(OSError, ValueError):
        found = json.loads((results_dir / MARKER).read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("runs_made_by", []), list):
            return found
    made_by = f"{PACKAGE} {package_version(PACKAGE) or 'unknown'}"
    return {"schema_version": store.SCHEMA_VERSION, "made_by": made_by}


def _write(results_dir: Path, content: Mapping[str, Any]) -> None:
    store.write_bytes(results_dir / MARKER, f"{json.dumps(content, indent=2)}\n".encode())


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
    if store.RUN_ID.fullmatch(path.stem) is None:
        return False
    try:
        return b"schema_version" in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError, ValueError):
        return False
