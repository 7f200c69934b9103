"""How a sweep carries out its runs: which alone, which resumable."""

from dataclasses import replace
from io import StringIO

import pandas as pd
import pytest
from rich.console import Console

from bench.config import Execution
from bench.experiments import arms as timing
from bench.experiments import cells, sweep
from bench.loop import Progress
from bench.records import store
from tests.bench import fake_driver, fakes
from tests.bench.fake_driver import A, B, C, D

from .gpu_jobs import Holding, tell_gpus


def test_timed_runs_come_last_and_one_at_a_time(tmp_path):
    update_s = 0.03
    timed = [timing.arm(fakes.config(seed=seed), "whole") for seed in (0, 1, 2)]
    untimed = [fakes.config(seed=seed) for seed in (0, 1, 2)]
    ids = sweep.sweep(
        [*timed, *untimed],
        fakes.MODELS,
        results_dir=tmp_path,
        preset="smoke",
        workers=3,
        console=Console(file=StringIO()),
        execute=fakes.FakeExecute(tmp_path, update_s),
    )
    begun_ns = {}
    for path in (tmp_path / "executed").iterdir():
        run_id, _, at = path.name.rpartition("-")
        begun_ns[run_id] = int(at)
    assert sorted(begun_ns) == sorted(ids)
    alone, together = ([begun_ns[one] for one in part] for part in (ids[:3], ids[3:]))
    run_s = timed[0].updates * update_s
    assert min(alone) - max(together) >= 1e9 * run_s
    first, second, third = sorted(alone)
    assert min(second - first, third - second) >= 1e9 * run_s


@pytest.mark.parametrize(
    ("execution", "shares"),
    [
        (None, {A, B, C, D}),
        (Execution(source="overlapped"), {f"{A},{B}", f"{C},{D}"}),
        (Execution(device="cuda:3"), {f"{A},{B},{C},{D}"}),
    ],
)
def test_each_run_has_gpus_of_its_own_and_timed_runs_have_two(
    tmp_path, monkeypatch, execution, shares
):
    fake_driver.install(tmp_path, monkeypatch, fake_driver.listing(4))
    untimed = [fakes.config(seed=seed) for seed in range(6)]
    timed = [timing.arm(fakes.config(), arm) for arm in ("overlapped", "whole")]
    ids = sweep.sweep(
        [*untimed, *(timed if execution is None else [])],
        fakes.MODELS,
        results_dir=tmp_path,
        preset="smoke",
        workers=None,
        console=Console(file=StringIO()),
        execute=Holding(tmp_path, update_s=0.1),
        execution=execution,
    )
    seen = [(tmp_path / f"{run_id}.gpus").read_text() for run_id in ids]
    assert set(seen[:6]) == shares
    assert seen[6:] == ([f"{A},{B}"] * 2 if execution is None else [])


def test_models_are_trained_on_a_gpu_each(tmp_path, monkeypatch):
    fake_driver.install(tmp_path, monkeypatch, fake_driver.listing(2))
    monkeypatch.setattr(sweep, "_build", tell_gpus)
    stage, cache = fakes.config().stage, tmp_path / "checkpoints"
    cache.mkdir()
    parts = [replace(stage, model=size).sft() for size in ("first", "second")]
    sweep.build_models(parts, [cache], workers=None, console=Console(file=StringIO()))
    assert sorted(path.name for path in cache.glob("GPU-*")) == [A, B]


def test_what_a_run_reports_reaches_the_pool(monkeypatch):
    def train(config, _models, on_progress, _execution, _ranks):
        on_progress(Progress(0, 0.25, "a checkpoint is damaged"))
        on_progress(Progress(1, 0.5))
        return fakes.result(config)

    monkeypatch.setattr("bench.loop.train", train)
    (models,) = fakes.MODELS.values()
    reports = []
    cells.train_cell(
        cells.job_of("run", cells.Cell(fakes.config(), models)),
        lambda *report: reports.append(report),
        origin=fakes.PROVENANCE,
    )
    assert reports == [(0, 0.25, "a checkpoint is damaged"), (1, 0.5, "")]


@pytest.mark.parametrize("arm", [None, "whole"])
def test_an_interrupted_run_is_resumed_unless_it_is_timed(tmp_path, monkeypatch, arm):
    config = fakes.config()
    if arm is not None:
        config = timing.arm(config, arm)
    given = []

    def train(config, _models, _on_progress, execution, _ranks):
        given.append(execution)
        return fakes.result(config)

    monkeypatch.setattr("bench.loop.train", train)
    (models,) = fakes.MODELS.values()
    cell = cells.Cell(config, models)
    trained = cells.train_cell(
        cells.job_of("run", cell),
        lambda *_: None,
        checkpoint_dir=tmp_path / "unfinished",
        origin=fakes.PROVENANCE,
    )
    cells.write(tmp_path, "smoke", cell, trained)
    (execution,) = given
    assert execution.checkpoint_dir == (tmp_path / "unfinished" if arm is None else None)
    row = store.read(tmp_path, "runs").iloc[0]
    expected = None if arm is None else timing.available_cores()
    assert row["threads"] == (expected or 1)
    assert row["source"] == "inline"
    assert row["timed"] == arm if arm else pd.isna(row["timed"])
