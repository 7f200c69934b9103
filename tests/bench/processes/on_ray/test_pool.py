"""Jobs on the cluster: the events and the files of the local pool."""

import os
import signal
import time
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.experiments import sweep
from bench.experiments.presets import preset
from bench.experiments.sweep import Cell
from bench.processes.on_ray import pool
from bench.processes.pool import Event
from bench.records import store
from bench.staleness import ON_POLICY, reuse

from ... import fakes
from ...experiments.test_sweep import assert_same
from ...live_processes import eventually
from ...live_processes import runs as process_runs
from .hosted import Execute, Models

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def models(tmp_path):
    for name in ("sft", "reward"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
    return Models(tmp_path / "sft", tmp_path / "reward")


@pytest.fixture
def record(tmp_path):
    (tmp_path / "record").mkdir()
    return tmp_path / "record"


def start(tmp_path, models, record, *algorithms, updates=4):
    """Return the events of runs of these, which write to ``tmp_path / "results"``."""
    cells = [
        Cell(fakes.config(name, seed=seed, updates=updates), models)
        for seed, name in enumerate(algorithms)
    ]
    jobs = [sweep._job(cell.config.run_id(models.digest), cell) for cell in cells]
    results = tmp_path / "results"
    return pool.run_jobs(jobs, Execute(record), results_dir=results, log_dir=results / "logs")


def kinds(events, index):
    return [event.kind for event in events if event.index == index]


def ends(events, index):
    return [kind for kind in kinds(events, index) if kind not in ("started", "progress")]


RUN = ["started", "progress", "progress", "progress", "progress"]


def test_what_is_written_far_away_is_found_here(tmp_path, models, record):
    events = list(start(tmp_path, models, record, "rloo", "rloo", "diverges"))
    for index in range(3):
        assert kinds(events, index) == [*RUN, "finished"]
    progress = [e for e in events if e.index == 0 and e.kind == "progress"]
    assert [(e.updates, e.win_rate) for e in progress] == [(n, 0.5) for n in (1, 2, 3, 4)]
    for seed, name in enumerate(["rloo", "rloo", "diverges"]):
        fakes.write(
            tmp_path / "local",
            fakes.config(name, seed=seed),
            "diverged" if name == "diverges" else "completed",
            git_revision="sftreward",
        )
    assert_same(tmp_path / "results", tmp_path / "local")
    assert {path.name for path in (tmp_path / "results").iterdir()} == {*store.SCHEMAS, "logs"}


def test_the_run_is_recorded_last(tmp_path, models, record, monkeypatch):
    written = []
    write = store.write_bytes
    monkeypatch.setattr(
        store, "write_bytes", lambda path, content: (written.append(path), write(path, content))
    )
    list(start(tmp_path, models, record, "rloo"))
    assert len(written) == len(store.SCHEMAS)
    assert written[-1].parent.name == "runs"


def test_a_job_that_raises_or_is_refused_says_so_and_the_others_go_on(tmp_path, models, record):
    events = list(start(tmp_path, models, record, "raises", "refused", "rloo"))
    log = next((tmp_path / "results" / "logs").iterdir())
    assert [event for event in events if event.kind in ("failed", "refused")] in (
        [
            one := Event("failed", 0, error=f"RuntimeError: the loss has no opinion ({log})"),
            two := Event("refused", 1, error="algorithm 'refused': allowed are none"),
        ],
        [two, one],
    )
    assert "Traceback" in log.read_text()
    assert kinds(events, 2)[-1] == "finished"


def test_a_job_whose_process_is_killed_is_tried_once_more(tmp_path, models, record):
    events = list(start(tmp_path, models, record, "killed_once", "killed", "rloo"))
    # What a process reported just before it was killed may be lost with it.
    assert ends(events, 0) == ["retried", "finished"]
    assert ends(events, 1) == ["retried", "failed"]
    assert ends(events, 2) == ["finished"]
    errors = {event.kind: event.error for event in events if event.index == 1}
    how = "its process on the cluster died: The worker died unexpectedly while executing this task"
    assert errors["retried"] == f"{how}; trying once more"
    assert errors["failed"] == f"{how}, 2 times (out of memory?)"
    assert len(list(record.iterdir())) == 2 + 2 + 1
    assert len(store.read(tmp_path / "results", "runs")) == 2


def test_closing_ends_what_runs_and_starts_nothing_more(tmp_path, models, record):
    with closing(start(tmp_path, models, record, *["hangs"] * 4)) as events:
        for _ in range(2 * len(RUN)):  # of two, since there are two CPUs
            next(events)
    begun = list(record.iterdir())
    pids = [int(path.name.split("-")[-2]) for path in begun]
    assert len(pids) == 2
    assert eventually(lambda: not any(map(process_runs, pids)), within_s=30)
    time.sleep(1)
    assert list(record.iterdir()) == begun


def run_sweep(results_dir, configs, models, **where):
    console = Console(file=StringIO())
    sweep.sweep(
        configs,
        models,
        results_dir=results_dir,
        preset="smoke",
        workers=1,
        console=console,
        **where,
    )
    return console.file.getvalue()


@pytest.mark.slow
def test_a_sweep_on_the_cluster_is_the_local_one_even_if_a_task_is_killed(
    tmp_path, smoke, monkeypatch
):
    smallest, found = preset("smoke"), smoke
    models = {smallest.stage().hash(): found}
    configs = [
        smallest.run_config(name, schedule, seed=seed)
        for name, schedule in (("rloo", ON_POLICY), ("online_dpo", reuse(2)))
        for seed in (0, 1)
    ]
    run_sweep(tmp_path / "local", configs, models)
    run_sweep(tmp_path / "far", configs[:1], models, gpus_per_task=0)

    retried = []
    run_jobs = pool.run_jobs

    def disturbed(*args, **kwargs):
        for event in run_jobs(*args, **kwargs):
            if event.kind == "progress" and event.updates == 2 and not retried:
                retried.append(event)
                os.kill(task_pids()[0], signal.SIGKILL)
            if event.kind == "retried":
                retried.append(event)
            yield event

    monkeypatch.setattr(pool, "run_jobs", disturbed)
    output = run_sweep(tmp_path / "far", configs, models, gpus_per_task=0)
    assert output.splitlines()[0] == "1 of 4 cells are already done"
    assert "[4/4]" in output
    assert [event.kind for event in retried] == ["progress", "retried"]
    assert_same(tmp_path / "local", tmp_path / "far")


def task_pids():
    """Return the processes that do jobs now, by the name that Ray gives them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_run"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
