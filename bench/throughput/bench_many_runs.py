"""A results directory of 10,000 runs: how soon a sweep starts, and a figure is drawn from it.

The runs are made up: one per cell of figure 4 is written as a sweep writes it, with as many rows as
a run of preset ``tiny`` has, and copied to all seeds with noise.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from rich.console import Console

from bench.config import RunConfig
from bench.experiments.presets import preset
from bench.experiments.sweep import locked, sweep
from bench.paths import ROOT
from bench.records import merge, provenance, store
from bench.records.compact import MOST_SEPARATE
from bench.records.schemas import SCHEMAS, by_run
from bench.staleness import reuse
from bench.types import EvalRecord, Outcome, RunResult, Sample, Span, StageModels, StepRecord

pytestmark = pytest.mark.slow  # no part of a figure at preset ``smoke``

ALGORITHMS = ("ppo", "rloo", "online_dpo", "best_of_2")
SEEDS = 357
SPANS = 5  # per update
LIMIT_S = 10.0  # on two cores; a slower one is information, not a failure
MODELS = StageModels(Path(), Path(), "0123456789ab", "ba9876543210")
PROVENANCE = {"threads": 1, "device": "cpu", "started_utc": "2024-01-01T00:00:00"}


@pytest.fixture(scope="module")
def many_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunConfig]]:
    """Return a results directory and the configurations of its runs.

    As many as a sweep leaves so have files of their own.
    """
    results_dir = tmp_path_factory.mktemp("many-runs")
    scale = preset("tiny")
    cells = [scale.run_config(name, reuse(n)) for name in ALGORITHMS for n in scale.n_values]
    runs = [cell.with_seed(seed) for seed in range(SEEDS) for cell in cells]
    separate = {_write(results_dir, run) for run in runs[:MOST_SEPARATE]}
    ids = [[cell.with_seed(s).run_id(MODELS.digest) for s in range(SEEDS)] for cell in cells]
    rng = np.random.default_rng(0)
    added = {}
    for table in SCHEMAS:
        first = by_run(store.read_arrow(results_dir, table, [of_cell[0] for of_cell in ids]))
        copied = [_copies(first[of_cell[0]], of_cell) for of_cell in ids]
        noisy = _with_noise(pa.concat_tables(copied), rng)
        added[table] = {k: rows for k, rows in by_run(noisy).items() if k not in separate}
    merge.write(added, results_dir)
    return results_dir, runs


def bench_sweep_start(benchmark: BenchmarkFixture, many_runs: tuple[Path, list[RunConfig]]) -> None:
    """Find out that all runs are done."""
    results_dir, runs = many_runs
    console = Console(file=StringIO(), width=80)

    def start() -> None:
        with locked(results_dir):
            sweep(
                runs,
                {runs[0].models_key: MODELS},
                results_dir=results_dir,
                preset="tiny",
                workers=2,
                console=console,
            )

    _measure(benchmark, start)
    assert f"{len(runs)} of {len(runs)} cells are already done" in console.file.getvalue()  # type: ignore[attr-defined]


def bench_replot(benchmark: BenchmarkFixture, many_runs: tuple[Path, list[RunConfig]]) -> None:
    """Draw figure 4 from all runs, as a command, the start of Python included."""
    results_dir, _ = many_runs
    script = "reproductions/fig_offpolicy_robustness.py"
    flags = ["--replot", "--out", str(results_dir), "--seeds", str(SEEDS)]
    command = [sys.executable, script, *flags]
    _measure(benchmark, partial(subprocess.run, command, cwd=ROOT, check=True, capture_output=True))


def _measure(benchmark: BenchmarkFixture, run: Any) -> None:
    benchmark.group = "10,000 runs"
    benchmark.extra_info["limit_s"] = LIMIT_S
    benchmark.pedantic(run)


def _write(results_dir: Path, run: RunConfig) -> str:
    """Write a run with made-up numbers; return its id."""

    def some(row_type: type, **values: Any) -> Any:
        """Return a row: 0.5 where there is nothing better."""
        return row_type(**{field.name: 0.5 for field in fields(row_type)} | values)

    steps = range(run.updates)
    result = RunResult(
        status="completed",
        diverged_at=None,
        steps=[
            some(
                StepRecord,
                step=i,
                policy_version=i,
                rollout_version=run.schedule.version_at(i),
                staleness=i - run.schedule.version_at(i),
                completion_tokens=1280,
                metrics={f"metric_{name}": 0.5 for name in "abcdefgh"},
            )
            for i in steps
        ],
        evals=[
            some(
                EvalRecord,
                step=i,
                episodes=i * run.prompts_per_batch,
                completions=i * run.prompts_per_batch * 2,
                win_rate_n=512,
                win_rate=0.5 + 0.002 * i,
                kl_nats=0.1 * i,
            )
            for i in range(0, run.updates + 1, run.evaluation.every)
        ],
        samples=[Sample(run.updates, i, "a post " * 20, "a summary " * 5, "a reference " * 5,
                        1.0, 0.5, 0.2) for i in range(run.evaluation.samples)],
        outcomes=[Outcome(i, "win", 9, 9) for i in range(run.evaluation.prompts)],
        wall_s=35.0,
        spans=[Span("learner", "learn", i + 0.2, i + 0.8, i) for i in steps for _ in range(SPANS)],
    )  # fmt: skip
    return store.write_run(
        results_dir,
        run,
        result,
        preset="tiny",
        weights_digest=MODELS.digest,
        sft_digest=MODELS.sft_digest,
        provenance={**provenance.code_and_host(), **PROVENANCE},
    )


def _copies(rows: pa.Table, run_ids: list[str]) -> pa.Table:
    """Return the rows of a run once for each id; those of table ``runs`` with its seed."""
    copies = rows.take(np.tile(np.arange(len(rows)), len(run_ids)))
    columns = {"run_id": np.repeat(run_ids, len(rows))}
    if "seed" in rows.column_names:
        columns["seed"] = np.arange(len(run_ids))
    for name, values in columns.items():
        copies = copies.set_column(
            rows.column_names.index(name), rows.field(name), pa.array(values)
        )
    return copies


def _with_noise(rows: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Return rows whose floats are as hard to compress as measured ones."""

    def noisy(values: pa.Array) -> pa.Array:
        return pa.array(values.to_numpy() * (1 + 0.01 * rng.standard_normal(len(values))))

    for index, field in enumerate(rows.schema):
        column = rows[index].combine_chunks()
        if pa.types.is_floating(field.type):
            rows = rows.set_column(index, field, noisy(column))
        elif pa.types.is_map(field.type):
            items = pa.MapArray.from_arrays(column.offsets, column.keys, noisy(column.items))
            rows = rows.set_column(index, field, items)
    return rows
