"""Timing of a series beside others: in every round each runs once, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.throughput.table import Shape, Timing, rows_of


@dataclass(frozen=True, kw_only=True)
class Series:
    """Something to time: ``run`` does one round; the rest is as in ``Timing``.

    With ``part_s`` nothing is run: it returns the time of a part of the round before.
    """

    name: str
    run: Callable[[], object] = lambda: None
    part_s: Callable[[], float] | None = None
    tokens: int | None = None
    completions: int | None = None
    flops: int | None = None
    target: float | None = None
    limit_s: float | None = None

    def synchronised(self) -> None:
        """Do one round and wait for the device."""
        self.run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def round_s(self) -> float:
        """Do one round and return its seconds."""
        if self.part_s is not None:
            return self.part_s()
        start = time.perf_counter()
        self.synchronised()
        return time.perf_counter() - start

    def timing(self, rounds_s: list[float]) -> Timing:
        """Return what was measured."""
        return Timing(
            series=self.name,
            rounds_s=tuple(rounds_s),
            tokens=self.tokens,
            completions=self.completions,
            flops=self.flops,
            target=self.target,
            limit_s=self.limit_s,
        )


class Meter:
    """Measures a benchmark's own series and those it is compared with; called once."""

    def __init__(self, benchmark: BenchmarkFixture, rows: list[dict[str, Any]]) -> None:
        """Add what is measured to ``rows``."""
        self._benchmark = benchmark
        self._rows = rows

    def __call__(
        self,
        benchmark: str,
        shape: Shape,
        own: Series,
        *others: Series,
        rounds: int = 7,
        warmup_rounds: int = 2,
    ) -> None:
        """Time ``own`` under pytest-benchmark, and before each of its rounds one of each other.

        Args:
            benchmark: the name in the table; benchmarks that differ by shape alone share it.
            shape: what all series run on.
            own: the suite's.
            others: what it is compared with.
            rounds: how often, after the warm-up.
            warmup_rounds: how often before, uncounted.
        """
        other_rounds: list[list[float]] = [[] for _ in others]

        def run_others() -> None:
            for other, rounds_s in zip(others, other_rounds, strict=True):
                rounds_s.append(other.round_s())

        self._benchmark.group = benchmark
        self._benchmark.pedantic(
            own.synchronised, setup=run_others, rounds=rounds, warmup_rounds=warmup_rounds
        )
        stats = self._benchmark.stats
        if stats is None:  # --benchmark-disable: run once, not timed
            return
        timings = [
            other.timing(rounds_s[warmup_rounds:])
            for other, rounds_s in zip(others, other_rounds, strict=True)
        ]
        rows = rows_of(benchmark, shape, own.timing(stats.stats.data), timings)
        self._rows += rows
        self._benchmark.extra_info.update(asdict(shape), tokens=own.tokens)
        for row in rows[1:]:
            self._benchmark.extra_info[row["series"]] = {
                name: row[name] for name in ("median_s", "min_s", "iqr_s", "ratio", "target")
            }
