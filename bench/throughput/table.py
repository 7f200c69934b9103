"""The table of measured throughputs: one Parquet file per session, and its text. Imports no torch.

A row is one series of one benchmark: the suite's own, or what it is measured against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.config import ConfigError
from bench.store import SCHEMA_VERSION, write_arrow

S, I, F, B = pa.string(), pa.int64(), pa.float64(), pa.bool_()  # noqa: E741

THROUGHPUT = pa.schema([
    ("session", S), ("benchmark", S), ("series", S),
    ("preset", S), ("model", S), ("algorithm", S),
    ("rows", I), ("prompt_tokens", I), ("completion_tokens", I),  # a batch: completions, lengths
    ("tokens", I), ("completions", I), ("flops", I),  # work of one round; null where not counted
    ("rounds", I), ("rounds_s", pa.list_(F)), ("median_s", F), ("min_s", F), ("iqr_s", F),
    ("tokens_per_s", F), ("completions_per_s", F), ("flops_per_s", F),  # by median_s
    ("ratio", F),  # the benchmark's own rate over this series'; null in the benchmark's own row
    ("target", F),  # the least ratio aimed for, if any
    ("limit_s", F),  # the longest median aimed for, if any
    # provenance
    ("started_utc", S), ("git_revision", S), ("git_dirty", B), ("python", S), ("torch", S),
    ("transformers", S), ("trl", S), ("host_cpu", S), ("cores", I), ("threads", I), ("device", S),
    ("constraints_hash", S), ("schema_version", I),
])  # fmt: skip

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
        row = {"benchmark": benchmark, **asdict(shape), **asdict(timing)}
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
    return rows


def write(
    directory: Path, rows: Iterable[Mapping[str, Any]], provenance: Mapping[str, Any]
) -> Path:
    """Write a session's rows as a new file of ``directory``; its name sorts by time.

    Raises:
        ConfigError: the file cannot be written.
    """
    stamp = str(provenance["started_utc"]).replace(":", "").replace("-", "")[:15]
    session, repeat = stamp, 1
    while (path := directory / f"{session}.parquet").exists():
        repeat += 1
        session = f"{stamp}-{repeat}"
    common = {**provenance, "session": session, "schema_version": SCHEMA_VERSION}
    write_arrow(path, pa.Table.from_pylist([{**row, **common} for row in rows], THROUGHPUT))
    return path


def read(directory: Path) -> pd.DataFrame:
    """Return the rows of all sessions in ``directory``, oldest session first.

    Raises:
        ConfigError: there are none, or a file is damaged or of another schema version.
    """
    paths = sorted(directory.glob("*.parquet"))
    if not paths:
        raise ConfigError(f"no throughput in {directory}: run `pytest --benchmark-only` first")
    tables = []
    for path in paths:
        try:
            table = pq.ParquetFile(path, page_checksum_verification=True).read()
        except (pa.ArrowException, OSError):
            raise ConfigError(f"{path} is a truncated or damaged Parquet file: delete it") from None
        version = (table.schema.metadata or {}).get(b"schema_version", b"unknown").decode()
        if version != str(SCHEMA_VERSION):
            raise ConfigError(
                f"{path} was written by schema version {version}, this suite reads version "
                f"{SCHEMA_VERSION}: move it away"
            )
        tables.append(table.cast(THROUGHPUT))
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return frame


def summary(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one line per row: rate, median round and, under its benchmark, each ratio."""
    lines = []
    for row in rows:
        if row["ratio"] is None:
            of = " ".join(filter(None, [row["model"], row["algorithm"], f"{row['rows']} rows"]))
            label = f"{row['benchmark']} [{of}]"
        else:
            label = "  against"
        rates = [
            _rate(row[f"{work}_per_s"], unit)
            for work, unit in (
                ("tokens", "tokens"),
                ("completions", "completions"),
                ("flops", "FLOP"),
            )
            if row[f"{work}_per_s"] is not None
        ]
        time = f"{row['median_s'] * 1e3:.3g} ms (IQR {row['iqr_s'] * 1e3:.2g})"
        line = f"{label:<38} {row['series']:<21} {time:<24} {', '.join(rates)}"
        if row["ratio"] is not None:
            line += f"{'; ' if rates else ''}{row['ratio']:.3g} times as fast"
        if row["target"] is not None:
            met = "met" if row["ratio"] >= row["target"] else "not met"
            line += f", target {row['target']:g}: {met}"
        if row["limit_s"] is not None:
            met = "met" if row["median_s"] <= row["limit_s"] else "not met"
            line += f"limit {row['limit_s'] * 1e3:g} ms: {met}"
        lines.append(line.rstrip())
    return lines


def _rate(value: float, unit: str) -> str:
    if unit == "FLOP":
        return f"{value / 1e9:.1f} GFLOP/s"
    return f"{value:,.0f} {unit}/s"
