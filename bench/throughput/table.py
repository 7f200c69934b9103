"""The table of measured throughputs: one Parquet file per session, and its text. Imports no torch.

A row is one series of one benchmark: the suite's own, or what it is measured against.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pandas as pd
import pyarrow as pa

from bench.errors import UserError
from bench.records.schemas import conform
from bench.records.store import SCHEMA_VERSION, read_file, write_arrow

S, I, F, B = pa.string(), pa.int64(), pa.float64(), pa.bool_()  # noqa: E741

THROUGHPUT = pa.schema([
    ("session", S), ("benchmark", S), ("series", S),
    ("own", S),  # the series that the benchmark is about; the others are measured beside it
    ("preset", S), ("model", S), ("algorithm", S),
    ("rows", I), ("prompt_tokens", I), ("completion_tokens", I),  # a batch: completions, lengths
    ("tokens", I), ("completions", I), ("flops", I),  # work of one round; null where not counted
    ("rounds", I), ("rounds_s", pa.list_(F)), ("median_s", F), ("min_s", F), ("iqr_s", F),
    ("tokens_per_s", F), ("completions_per_s", F), ("flops_per_s", F),  # by median_s
    ("ratio", F),  # the own series' rate over this one's; null in the own row
    ("target", F),  # the least ratio aimed for, if any
    ("limit_s", F),  # the longest median aimed for, if any
    ("efficiency", F),  # of overlap; null except in the row of the ideal bound
    # provenance
    ("started_utc", S), ("git_revision", S), ("git_dirty", B), ("python", S), ("torch", S),
    ("transformers", S), ("trl", S), ("host_cpu", S), ("cores", I), ("threads", I), ("device", S),
    ("constraints_hash", S), ("schema_version", I),
])  # fmt: skip

SAME = ["benchmark", "preset", "model", "algorithm", "rows", "own"]  # names what was measured
EFFICIENCY = 0.9  # of overlap: the least aimed for
WORK = ("flops", "completions", "tokens")  # in the order in which a ratio prefers them


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a benchmark ran on: B * K rows of P prompt tokens and T completion tokens."""

    model: str
    rows: int
    prompt_tokens: int
    completion_tokens: int
    preset: str = "tiny"
    algorithm: str | None = None

    @property
    def tokens(self) -> int:
        """Tokens of all completions."""
        return self.rows * self.completion_tokens


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The rounds of one series and the work of each of them."""

    series: str
    rounds_s: tuple[float, ...]
    tokens: int | None = None  # of completions
    completions: int | None = None
    flops: int | None = None
    target: float | None = None
    limit_s: float | None = None

    def rate(self, work: str | None) -> float:
        """Return work per second by the median round; rounds per second for no work."""
        amount = getattr(self, work) if work else 1
        return float(amount / median(self.rounds_s))


def ratio(own: Timing, other: Timing) -> float:
    """Return how many times as fast ``own`` is as ``other``, in the work that both count."""
    common = (w for w in WORK if getattr(own, w) is not None and getattr(other, w) is not None)
    work = next(common, None)
    return own.rate(work) / other.rate(work)


def rows_of(
    benchmark: str, shape: Shape, own: Timing, others: Sequence[Timing]
) -> list[dict[str, Any]]:
    """Return the table's rows for one benchmark, its own series first, without provenance."""
    rows = []
    for timing in (own, *others):
        row = {"benchmark": benchmark, **asdict(shape), **asdict(timing), "own": own.series}
        row["efficiency"] = None
        row["rounds"] = len(timing.rounds_s)
        row["median_s"] = median(timing.rounds_s)
        row["min_s"] = min(timing.rounds_s)
        low, _, high = quantiles(timing.rounds_s, n=4, method="inclusive")
        row["iqr_s"] = high - low
        for work in WORK:
            counted = getattr(timing, work) is not None
            row[f"{work}_per_s"] = timing.rate(work) if counted else None
        row["ratio"] = None if timing is own else ratio(own, timing)
        rows.append(row)
    series = {row["series"]: row for row in rows}
    if "ideal" in series:
        ideal_s, split_s = series["ideal"]["median_s"], series["split"]["median_s"]
        saved_s = split_s - rows[0]["median_s"]
        series["ideal"]["efficiency"] = saved_s / (split_s - ideal_s)
    return rows


def write(
    directory: Path, rows: Iterable[Mapping[str, Any]], provenance: Mapping[str, Any]
) -> Path:
    """Write a session's rows as a new file of ``directory``; its name sorts by time.

    Raises:
        UserError: the file cannot be written.
    """
    stamp = str(provenance["started_utc"]).replace(":", "").replace("-", "")[:15]
    session, repeat = stamp, 1
    while (path := directory / f"{session}.parquet").exists():
        repeat += 1
        session = f"{stamp}_{repeat}"
    common = {**provenance, "session": session, "schema_version": SCHEMA_VERSION}
    write_arrow(path, pa.Table.from_pylist([{**row, **common} for row in rows], THROUGHPUT))
    return path


def read(directory: Path) -> pd.DataFrame:
    """Return the rows of all sessions in ``directory``, oldest session first.

    Raises:
        UserError: there are none, or a file is damaged or of another schema version.
    """
    paths = sorted(directory.glob("*.parquet"))
    if not paths:
        raise UserError(f"no throughput in {directory}: run `pytest --benchmark-only` first")
    tables = []
    for path in paths:
        table = read_file(path, repair="delete it", replace="move it away")
        try:
            tables.append(conform(table, THROUGHPUT))
        except ValueError as error:
            raise UserError(
                f"{path} has other columns than this suite's: {error}; move it away"
            ) from None
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return frame


def latest(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each benchmark and shape from one session.

    The latest session with the most series is taken: not every environment has every engine.
    """
    count = frame.groupby([*SAME, "session"], dropna=False)["series"].transform("count")
    ordered = frame.assign(count=count).sort_values(["count", "session"], kind="stable")
    chosen = ordered.groupby(SAME, dropna=False)["session"].transform("last")
    return frame[frame["session"] == chosen.reindex(frame.index)]


def targets(rows: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """Return one row per target: the measured value, the target and whether it is met."""
    found = []
    for row in rows:
        what = {name: row[name] for name in ("benchmark", "model", "own", "series")}
        aims = {
            "times as fast": (row["ratio"], row["target"]),
            "ms at most": (row["median_s"] * 1e3, (row["limit_s"] or math.nan) * 1e3),
            "overlap efficiency": (row["efficiency"], EFFICIENCY),
        }
        for quantity, (measured, target) in aims.items():
            if pd.notna(measured) and pd.notna(target):
                met = measured <= target if quantity == "ms at most" else measured >= target
                aim = {"quantity": quantity, "measured": measured, "target": target, "met": met}
                found.append({**what, **aim})
    return pd.DataFrame(found)


def summary(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one line per row: rate, median round and, under its benchmark, each ratio."""
    lines = []
    for row in rows:
        if row["ratio"] is None:
            of = " ".join(filter(None, [row["model"], row["algorithm"], f"{row['rows']} rows"]))
            label = f"{row['benchmark']} [{of}]"
        else:
            label = "  against"
        said = [
            _rate(row[f"{work}_per_s"], unit)
            for work, unit in (
                ("tokens", "tokens"),
                ("completions", "completions"),
                ("flops", "FLOP"),
            )
            if row[f"{work}_per_s"] is not None
        ]
        if row["ratio"] is not None:
            said.append(f"{row['ratio']:.3g} times as fast")
        if row["target"] is not None:
            said.append(f"target {row['target']:g}: {_met(row['ratio'] >= row['target'])}")
        if row["limit_s"] is not None:
            met = _met(row["median_s"] <= row["limit_s"])
            said.append(f"limit {row['limit_s'] * 1e3:g} ms: {met}")
        if row["efficiency"] is not None:
            said.append(f"overlap efficiency {row['efficiency']:.2f}")
            said.append(f"target {EFFICIENCY}: {_met(row['efficiency'] >= EFFICIENCY)}")
        time = f"{row['median_s'] * 1e3:.3g} ms (IQR {row['iqr_s'] * 1e3:.2g})"
        lines.append(f"{label:<38} {row['series']:<21} {time:<24} {', '.join(said)}".rstrip())
    return lines


def _met(met: bool) -> str:
    return "met" if met else "not met"


def _rate(value: float, unit: str) -> str:
    if unit == "FLOP":
        return f"{value / 1e9:.1f} GFLOP/s"
    return f"{value:,.0f} {unit}/s"
