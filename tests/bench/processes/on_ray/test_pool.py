"""Jobs in workers on the cluster: the events and the tables of local workers."""

import os
import signal
import time
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.experiments import sweep
from bench.experiments.cells import Cell, job_of, write
from bench.experiments.presets import preset
from bench.processes.on_ray import connection
from bench.processes.pool import Event, run_jobs
from bench.staleness import ON_POLICY, reuse

from ... import fakes
from ...experiments.test_sweep import assert_same
from ...live_processes import eventually
from ...live_processes import runs as process_runs
from .hosted import Models

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def models(tmp_path):
    for name in ("sft", "reward"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
    return Models(tmp_path / "sft", tmp_path / "reward")


def start(tmp_path, models, *algorithms, updates=4):
    """Return the jobs of runs of these, and what happens to them."""
    cells = [
        Cell(fakes.config(name, seed=seed, updates=updates), models)
        for seed, name in enumerate(algorithms)
    ]
    jobs = [job_of(cell.config.run_id(models.digest), cell) for cell in cells]
    directories = [models.sft_dir, models.reward_dir]
    events = run_jobs(
        jobs,
        fakes.FakeExecute(tmp_path),
        workers=connection.slots(cpus=1, gpus=0),
        log_dir=tmp_path / "logs",
        launch=sweep._ray_launch(directories, gpus=0),
    )
    return jobs, events


def kinds(events, index):
    return [event.kind for event in events if event.index == index]


def ends(events, index):
    return [kind for kind in kinds(events, index) if kind not in ("started", "progress")]


RUN = ["started", "progress", "progress", "progress", "progress"]


def test_the_result_of_a_job_far_away_is_written_here(tmp_path, models):
    jobs, events = start(tmp_path, models, "rloo", "rloo", "diverges")
    events = list(events)
    for index in range(3):
        assert kinds(events, index) == [*RUN, "finished"]
    progress = [e for e in events if e.index == 0 and e.kind == "progress"]
    assert [(e.updates, e.win_rate) for e in progress] == [(n, 0.5) for n in (1, 2, 3, 4)]
    for event in events:
        if event.kind == "finished":
            write(tmp_path / "far", "smoke", jobs[event.index].payload, event.result)
    for seed, name in enumerate(["rloo", "rloo", "diverges"]):
        fakes.write(
            tmp_path / "local",
            fakes.config(name, seed=seed),
            "diverged" if name == "diverges" else "completed",
            git_revision="sftreward",  # read in the directories that were brought to the worker
        )
    assert_same(tmp_path / "far", tmp_path / "local")


def test_a_job_that_raises_or_is_refused_says_so_and_the_others_go_on(tmp_path, models):
    _, events = start(tmp_path, models, "raises", "refused", "rloo")
    events = list(events)
    log = next((tmp_path / "logs").iterdir())
    assert [event for event in events if event.kind in ("failed", "refused")] in (
        [
            one := Event("failed", 0, error=f"RuntimeError: the loss has no opinion ({log})"),
            two := Event("refused", 1, error="algorithm 'refused': allowed are none"),
        ],
        [two, one],
    )
    assert "Traceback" in log.read_text()
    assert kinds(events, 2)[-1] == "finished"


def test_a_job_whose_process_is_killed_is_tried_once_more(tmp_path, models):
    _, events = start(tmp_path, models, "killed_once", "killed", "rloo")
    events = list(events)
    assert ends(events, 0) == ["retried", "finished"]
    assert ends(events, 1) == ["retried", "failed"]
    assert ends(events, 2) == ["finished"]
    errors = {event.kind: event.error for event in events if event.index == 1}
    how = "its process was killed by SIGKILL"
    assert errors["retried"] == f"{how}; trying once more"
    assert errors["failed"] == f"{how}, 2 times (out of memory? use fewer --workers)"
    assert len(begun(tmp_path)) == 2 + 2 + 1


def test_a_job_whose_agent_is_killed_is_tried_once_more(tmp_path, models):
    _, events = start(tmp_path, models, "hangs")
    seen = []
    with closing(events):
        for event in events:
            seen.append(event)
            if event.kind == "progress" and event.updates == 4:
                os.kill(parent(begun(tmp_path)[-1]), signal.SIGKILL)
            if event.kind == "failed":
                break
    assert kinds(seen, 0) == [*RUN, "retried", *RUN, "failed"]
    assert seen[len(RUN)].error.startswith("its process died with its Ray actor: ")
    assert seen[len(RUN)].error.endswith("; trying once more")
    assert eventually(lambda: not any(map(process_runs, begun(tmp_path))))


def test_closing_ends_what_runs_and_starts_nothing_more(tmp_path, models):
    _, events = start(tmp_path, models, *["hangs"] * 4)
    with closing(events):
        for _ in range(2 * len(RUN)):  # of two, since there are two CPUs
            next(events)
    pids = begun(tmp_path)
    assert len(pids) == 2
    assert eventually(lambda: not any(map(process_runs, pids)), within_s=30)
    time.sleep(1)
    assert begun(tmp_path) == pids


def test_an_agent_that_is_stopped_does_not_delay_closing(tmp_path, models):
    _, events = start(tmp_path, models, "hangs")
    with closing(events):
        for _ in RUN:
            next(events)
        agent = parent(begun(tmp_path)[0])
        os.kill(agent, signal.SIGSTOP)
        start_s = time.monotonic()
    assert time.monotonic() - start_s < 10
    os.kill(agent, signal.SIGCONT)
    assert eventually(lambda: not any(map(process_runs, [agent, *begun(tmp_path)])), within_s=30)


def begun(tmp_path):
    """Return the processes that began a job, in that order."""
    paths = (tmp_path / "executed").iterdir()
    return [int(p.read_text()) for p in sorted(paths, key=lambda p: p.name.rpartition("-")[2])]


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


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
def test_a_sweep_on_the_cluster_is_the_local_one_even_if_a_worker_is_killed(
    tmp_path, smoke, monkeypatch
):
    smallest, found = preset("smoke"), smoke
    models = {smallest.stage().models_key(0): found}
    configs = [
        smallest.run_config(name, schedule, seed=seed)
        for name, schedule in (("rloo", ON_POLICY), ("online_dpo", reuse(2)))
        for seed in (0, 1)
    ]
    run_sweep(tmp_path / "local", configs, models)
    run_sweep(tmp_path / "far", configs[:1], models, gpus_per_task=0)

    retried = []

    def disturbed(*args, **kwargs):
        for event in run_jobs(*args, **kwargs):
            if event.kind == "progress" and event.updates == 2 and not retried:
                retried.append(event)
                os.kill(agents()[0], signal.SIGKILL)
            if event.kind == "retried":
                retried.append(event)
            yield event

    monkeypatch.setattr(sweep, "run_jobs", disturbed)
    output = run_sweep(tmp_path / "far", configs, models, gpus_per_task=0)
    assert output.splitlines()[0] == "1 of 4 cells are already done"
    assert "[4/4]" in output
    assert [event.kind for event in retried] == ["progress", "retried"]
    assert_same(tmp_path / "local", tmp_path / "far")
    assert not (tmp_path / "far" / "unfinished").exists()


def agents():
    """Return the processes of the actors, by the name that Ray gives them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::Agent"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
