"""Spans in the trace format that chrome://tracing and Perfetto open."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from bench.errors import UserError


def chrome_trace(spans: pd.DataFrame) -> dict[str, object]:
    """Return the spans of one run as complete events: microseconds from the first, one row each.

    The format is Google's "Trace Event Format"; ``args.step`` is the span's step.
    """
    origin = spans["start_s"].min()
    rows = {process: row for row, process in enumerate(sorted(set(spans["process"])))}
    names = [
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": row, "args": {"name": process}}
        for process, row in rows.items()
    ]
    columns = ["process", "name", "start_s", "end_s", "step"]
    events = [
        {
            "name": name,
            "ph": "X",
            "pid": 0,
            "tid": rows[process],
            "ts": 1e6 * (start_s - origin),
            "dur": 1e6 * (end_s - start_s),
            "args": {"step": int(step)},
        }
        for process, name, start_s, end_s, step in spans[columns].to_numpy().tolist()
    ]
    return {"displayTimeUnit": "ms", "traceEvents": [*names, *events]}


def write(spans: pd.DataFrame, path: Path) -> Path:
    """Write ``chrome_trace`` of the spans and return the path.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(chrome_trace(spans)), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    return path
