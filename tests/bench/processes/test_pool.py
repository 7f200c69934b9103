"""What becomes of jobs, also where their workers die, hang or stop."""

import math
import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.processes.pool import Event, launch_locally, run_jobs

from ..live_processes import runs
from .pool_jobs import Unreadable, execute, job


class Launch:
    """Starts workers on this machine and remembers their process ids."""

    def __init__(self):
        self.pids = []

    def __call__(self, host):
        worker = launch_locally(host)
        self.pids.append(worker.pid)
        return worker


@pytest.fixture
def launch():
    launch = Launch()
    yield launch
    assert not any(map(runs, launch.pids))  # when the generator has ended, so have the workers


def run(tmp_path, launch, *whats, workers=1, **options):
    """Return the events of jobs named 0, 1, ..."""
    jobs = [job(what, str(index)) for index, what in enumerate(whats)]
    options = {"workers": workers, "log_dir": tmp_path / "logs", "launch": launch, **options}
    return run_jobs(jobs, execute, **options)


def kinds(events, index=0):
    return [event.kind for event in events if event.index == index]


def test_a_job_reports_and_its_result_comes_back(tmp_path, launch):
    started, first, second, finished = run(tmp_path, launch, "")
    assert started == Event("started", 0)
    assert first == Event("progress", 0, updates=1, win_rate=0.25)
    assert second == Event("progress", 0, updates=2, win_rate=0.5)
    assert (finished.kind, finished.updates) == ("finished", 2)
    assert math.isnan(finished.win_rate)
    assert finished.result == (launch.pids[0], ())
    assert not list((tmp_path / "logs").iterdir())


def test_a_job_can_warn_the_user(tmp_path, launch):
    events = list(run(tmp_path, launch, "warn"))
    warned = Event("progress", 0, updates=1, win_rate=0.25, warning="the checkpoint was damaged")
    assert events[2] == warned
    assert kinds(events)[-1] == "finished"
    assert [event.warning for event in events if event is not events[2]] == [""] * 4


def test_a_worker_takes_job_after_job_and_no_more_are_started_than_allowed(tmp_path, launch):
    events = list(run(tmp_path, launch, *[""] * 5, workers=2))
    finished = [event for event in events if event.kind == "finished"]
    assert sorted(event.index for event in finished) == [0, 1, 2, 3, 4]
    assert len(launch.pids) == 2
    assert {event.result[0] for event in finished} <= set(launch.pids)
    at_once = most = 0
    for event in events:
        at_once += {"started": 1, "finished": -1}.get(event.kind, 0)
        most = max(most, at_once)
    assert most == 2


def test_workers_have_one_compute_thread(tmp_path, launch):
    *_, finished = run(tmp_path, launch, "settings")
    assert finished.result == ["1", "1", "false"]


def test_a_worker_that_is_done_cleans_up_as_a_program_does(tmp_path, launch):
    *_, finished = run(tmp_path, launch, "leave")
    assert not Path(finished.result).exists()


@pytest.mark.parametrize("workers", [0, -1])
def test_no_worker_at_all_is_refused_in_one_line(tmp_path, launch, workers):
    with pytest.raises(UserError, match=rf"^workers = {workers}: must be at least 1$"):
        next(run(tmp_path, launch, "", workers=workers))


def test_a_job_that_raises_is_reported_and_its_worker_goes_on(tmp_path, launch):
    events = list(run(tmp_path, launch, "raise", "refuse", "full", "unpicklable", ""))
    errors = {event.index: event for event in events if event.error}
    log = tmp_path / "logs" / "0.log"
    assert errors[0] == Event("failed", 0, error=f"RuntimeError: no opinion ({log})")
    assert "Traceback" in log.read_text()
    assert "and a second line" in log.read_text()
    assert errors[1] == Event("refused", 1, error="algorithm 'x': allowed are y")
    full = (
        f"no space left in {tmp_path} or the temporary directory; finished runs are safe, free "
        "some space and give the same command again"
    )
    assert errors[2] == Event("refused", 2, error=full)
    assert errors[3].kind == "failed"
    assert errors[3].error.startswith("TypeError: cannot pickle '_thread.lock' object")
    assert events[-1].result[0] == launch.pids[0]
    assert len(launch.pids) == 1


def test_a_job_whose_worker_is_killed_is_tried_once_more(tmp_path, launch):
    events = list(run(tmp_path, launch, "kill", ""))
    ends = [event for event in events if event.kind not in ("started", "progress", "finished")]
    assert ends == [
        Event("retried", 0, error="its process was killed by SIGKILL; trying once more"),
        Event(
            "failed",
            0,
            error="its process was killed by SIGKILL, 2 times (out of memory? use fewer --workers)",
        ),
    ]
    assert kinds(events, 1)[-1] == "finished"
    assert len(set(launch.pids)) == 3


def test_of_a_job_that_ends_its_process_the_output_is_kept(tmp_path, launch):
    *_, failed = run(tmp_path, launch, "exit")
    log = tmp_path / "logs" / "0.log"
    assert failed.error == (
        "its process exited with status 1: the job gave up, 2 times (out of memory? use fewer "
        f"--workers) ({log})"
    )
    assert log.read_text() == "what it printed\nthe job gave up"


def test_a_worker_that_cannot_start_says_why(tmp_path, launch):
    events = list(run_jobs([job("")], Unreadable(), workers=1, log_dir=tmp_path, launch=launch))
    assert kinds(events) == ["started", "retried", "started", "failed"]
    reason = "FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'"
    assert events[1].error.startswith(reason)


def test_a_job_that_the_worker_cannot_read_fails(tmp_path, launch):
    events = list(run(tmp_path, launch, Unreadable(), ""))
    assert kinds(events, 0) == ["started", "failed"]
    assert kinds(events, 1)[-1] == "finished"
    assert len(launch.pids) == 1


@pytest.mark.parametrize("how", ["hang", "stop"])
def test_a_worker_that_reports_nothing_is_killed(tmp_path, launch, how):
    events = list(run(tmp_path, launch, how, report_timeout_s=2.0))
    silence = "its process reported nothing for 2 s"
    assert [event.error for event in events if event.error] == [
        f"{silence}; trying once more",
        f"{silence}, 2 times",
    ]
    assert len(launch.pids) == 2


def test_a_worker_that_reports_in_time_may_take_longer_in_all(tmp_path, launch):
    events = run_jobs(
        [job("")], SlowExecute(), workers=1, log_dir=tmp_path, launch=launch, report_timeout_s=4.0
    )
    assert kinds(events) == ["started", *["progress"] * 5, "finished"]


class SlowExecute:
    """Takes 5 s in all, and 1 s for a report."""

    def __call__(self, job, on_progress):
        del job
        for update in range(5):
            time.sleep(1.0)
            on_progress(update, 0.5)


@pytest.mark.parametrize("stopped", [False, True])
def test_closing_ends_all_workers_within_seconds(tmp_path, launch, stopped):
    with closing(run(tmp_path, launch, *["hang"] * 4, workers=2)) as events:
        begun = set()
        while len(begun) < 2:
            event = next(events)
            begun |= {event.index} if event.kind == "progress" else set()
        for pid in launch.pids if stopped else []:
            os.kill(pid, signal.SIGSTOP)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert len(launch.pids) == 2
    assert not any(map(runs, launch.pids))
