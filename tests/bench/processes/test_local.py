import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest

from bench.processes.local import LocalWorker
from bench.processes.worker import WorkerDiedError, WorkerError

from ..live_processes import eventually, runs
from . import worker_contract
from .counter import Counter

WAIT_S = 30.0  # for what should take a moment, on a machine that may be busy


@pytest.fixture(scope="module")
def worker():
    worker = LocalWorker(partial(Counter, start=3), threads=2, cores={min(os.sched_getaffinity(0))})
    yield worker
    worker.close()


def start(**fails):
    return LocalWorker(partial(Counter, **fails), name="the counter")


@pytest.mark.parametrize(
    "holds",
    [
        worker_contract.answers_calls_in_order,
        worker_contract.sends_exceptions_back_as_one_line_with_their_traceback,
    ],
)
def test_it_keeps_the_contract(worker, holds):
    holds(worker, WAIT_S)


def test_threads_and_cores_are_set_and_torch_is_not_imported(worker):
    settings = worker.submit("settings").result(WAIT_S)
    assert settings == {"threads": "2", "cores": [min(os.sched_getaffinity(0))], "torch": False}


@pytest.mark.parametrize(("fail", "message"), worker_contract.FAILS.items())
def test_a_worker_that_cannot_start_says_why(fail, message, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # the worker sees to it by itself
    worker = start(fail=fail)
    with pytest.raises(WorkerError, match=message):
        worker.ready.result(WAIT_S)
    assert eventually(lambda: not worker.alive)
    worker.close()


@pytest.mark.parametrize("how", ["child", "fork"])
def test_a_killed_worker_fails_its_calls_and_takes_its_children_along(how):
    worker = start()
    child = worker.submit(how).result(WAIT_S)
    waiting = [worker.submit("sleep", 3600), worker.submit("add", 1)]
    os.kill(worker.pid, signal.SIGKILL)
    before = time.monotonic()
    for future in [*waiting, worker.submit("add", 1)]:
        with pytest.raises(WorkerDiedError, match=r"^the counter was killed by SIGKILL$"):
            future.result(WAIT_S)
    # Within a second of a free machine; a busy one is given some more.
    assert time.monotonic() - before < 3
    with pytest.raises(WorkerDiedError):
        worker.submit("add", 1).result(WAIT_S)  # nor does a later call wait
    assert eventually(lambda: not runs(child))
    worker.close()


def test_what_nobody_is_left_to_remove_is_removed_by_the_next_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    abandoned = tmp_path / "async-rlhf-bench-dead"
    abandoned.mkdir()
    worker = start()
    worker.ready.result(WAIT_S)
    assert not abandoned.exists()
    worker.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("killed", [False, True])
def test_nothing_temporary_outlives_a_worker(killed):
    worker = start()
    left = Path(worker.submit("temporary").result(WAIT_S))
    assert left.is_dir()
    if killed:
        os.kill(worker.pid, signal.SIGKILL)
    worker.close()
    assert not left.parent.exists()
    assert left.parent.parent == Path(tempfile.gettempdir())


def test_a_stopped_worker_is_ended_by_force():
    worker = start()
    worker.ready.result(WAIT_S)
    hanging = worker.submit("sleep", 3600)
    os.kill(worker.pid, signal.SIGSTOP)
    worker.submit("boom", b"x" * 5_000_000)  # more than the pipe takes: nobody reads, none waits
    with pytest.raises(TimeoutError):
        hanging.result(0.2)
    worker.close(grace_s=0.2)
    assert not runs(worker.pid)
    with pytest.raises(WorkerDiedError):
        hanging.result(0)
    worker.close()


def test_closing_lets_calls_finish():
    worker = start(start=1)
    slow, last = worker.submit("sleep", 0.2), worker.submit("add", 1)
    worker.close(grace_s=WAIT_S)
    assert slow.result(0) is None
    assert last.result(0) == 2
    assert not worker.alive


PARENT = """
import time
from bench.processes.local import LocalWorker
from tests.bench.processes.counter import Counter
worker = LocalWorker(Counter)
left = worker.submit("temporary").result(60)
print(worker.pid, worker.submit("child").result(60), left, flush=True)
worker.submit("sleep", 3600)
time.sleep(3600)
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_worker_dies_with_its_parent_and_takes_its_children_along(stopped):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
    )
    *pids, left = parent.stdout.readline().split()
    worker, child = map(int, pids)
    assert runs(worker)
    assert Path(left).is_dir()
    if stopped:
        os.kill(worker, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert eventually(lambda: not runs(worker) and not runs(child))
    assert not Path(left).parent.exists()
