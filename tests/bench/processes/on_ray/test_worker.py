import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import ray

from bench.processes.on_ray import parcels
from bench.processes.on_ray.parcels import Parcel
from bench.processes.on_ray.worker import Agent, RayWorker
from bench.processes.shared_memory import SHARED_MEMORY
from bench.processes.worker import WorkerDiedError, WorkerError

from ...live_processes import eventually, runs
from .. import worker_contract
from .hosted import Watcher

WAIT_S = 120.0  # for what should take a moment, on a machine that may be busy

pytestmark = pytest.mark.usefixtures("cluster")


@contextmanager
def started(directory=None, needs=(), **fails):
    worker = RayWorker(
        partial(Watcher, fails), directory, needs=needs, name="the counter", threads=2
    )
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("handoff")


@pytest.fixture(scope="module")
def worker(cluster, directory):  # noqa: ARG001
    with started(directory, start=3) as worker:
        yield worker


@pytest.mark.parametrize(
    "holds",
    [
        worker_contract.answers_calls_in_order,
        worker_contract.sends_exceptions_back_as_one_line_with_their_traceback,
    ],
)
def test_it_keeps_the_contract_of_a_local_worker(worker, holds):
    holds(worker, WAIT_S)


def test_calls_that_arrive_in_another_order_are_made_in_theirs():
    async def swapped():
        second = asyncio.create_task(agent.call(1, pickle.dumps(("add", (10,))), None))
        await asyncio.sleep(0.1)
        first = await agent.call(0, pickle.dumps(("add", (1,))), None)
        replies = [first, await second]
        await agent.close(5.0)
        return replies

    agent = Agent(pickle.dumps(partial(Watcher, {"start": 3})), False, [], "the counter", 1)
    replies = asyncio.run(swapped())
    assert [(kind, pickle.loads(value)) for kind, value in replies] == [("done", 4), ("done", 14)]


def test_it_has_a_process_of_its_own(worker):
    assert worker.ready.result(WAIT_S) is None
    assert worker.alive
    assert len({os.getpid(), *worker.pids(WAIT_S)}) == 3
    assert worker.submit("settings").result(WAIT_S)["threads"] == "2"


def test_files_are_copied_and_removed_as_they_are_at_home(worker, directory):
    (directory / "1.safetensors").write_bytes(b"one")
    (directory / "2.safetensors").write_bytes(b"two")
    (directory / "3.tmp").write_bytes(b"half of thr")
    worker.sync()
    listed = worker.submit("listing").result(WAIT_S)
    assert listed == {"1.safetensors": b"one", "2.safetensors": b"two"}
    (directory / "1.safetensors").unlink()
    (directory / "3.tmp").rename(directory / "3.safetensors")
    worker.sync()
    listed = worker.submit("listing").result(WAIT_S)
    assert listed == {"2.safetensors": b"two", "3.safetensors": b"half of thr"}
    assert worker.submit("directories").result(WAIT_S)[0] != directory


def test_a_call_waits_for_the_files_that_it_is_to_find(worker, directory):
    for name in ("10.safetensors", "11.safetensors"):
        (directory / name).write_bytes(bytes(60_000_000))  # takes longer to come than a call
        worker.sync()
        assert name in worker.submit("sizes").result(WAIT_S)
        assert worker.submit("sizes").result(WAIT_S)[name] == 60_000_000
        (directory / name).unlink()


def test_files_come_while_a_call_goes_on(worker, directory):
    waiting = worker.submit("wait_for", "9.safetensors")
    time.sleep(0.5)
    assert not waiting.done()
    (directory / "9.safetensors").write_bytes(b"nine")
    worker.sync()
    assert waiting.result(WAIT_S) is True


@pytest.mark.parametrize(("fail", "message"), worker_contract.FAILS.items())
def test_a_worker_that_cannot_start_says_why(tmp_path, fail, message):
    with started(tmp_path, fail=fail) as worker:
        with pytest.raises(WorkerError, match=message):
            worker.ready.result(WAIT_S)
        assert eventually(lambda: not worker.alive)


def kill_hosting_process(worker):
    os.kill(worker.pids(WAIT_S)[1], signal.SIGKILL)


def kill_agent(worker):
    os.kill(worker.pids(WAIT_S)[0], signal.SIGKILL)


def kill_actor(worker):
    ray.kill(worker._agent)


@pytest.mark.parametrize(
    ("kill", "message"),
    [
        (kill_hosting_process, r"^the counter was killed by SIGKILL$"),
        (kill_agent, r"^the counter died with its Ray actor: \S"),
        (kill_actor, r"^the counter died with its Ray actor: .*killed by `ray.kill`"),
    ],
)
def test_a_killed_worker_fails_its_calls_and_leaves_nothing(tmp_path, kill, message):
    with started(tmp_path) as worker:
        copy = worker.submit("directories").result(WAIT_S)[0]
        child = worker.submit("child").result(WAIT_S)
        waiting = [worker.submit("sleep", 3600), worker.submit("add", 1)]
        assert copy.exists()
        kill(worker)
        before = time.monotonic()
        for future in [*waiting, worker.submit("add", 1)]:
            with pytest.raises(WorkerDiedError, match=message):
                future.result(WAIT_S)
        assert time.monotonic() - before < 10
        assert eventually(lambda: not worker.alive)
        pids = worker.pids(WAIT_S)
    assert eventually(lambda: not any(map(runs, [*pids, child])))
    assert eventually(lambda: not copy.exists())


LEARNER = """
import sys, time
from functools import partial
from pathlib import Path
from bench.processes.on_ray import connection
from bench.processes.on_ray.worker import RayWorker
from tests.bench.processes.on_ray.hosted import Watcher
connection.connect(sys.argv[1])
worker = RayWorker(partial(Watcher, {}), Path(sys.argv[2]))
copy = worker.submit("directories").result(120)[0]
print(*worker.pids(120), worker.submit("child").result(120), copy, flush=True)
worker.submit("sleep", 3600)
time.sleep(3600)
"""


def test_a_worker_dies_with_its_learner_and_leaves_nothing(cluster, tmp_path):
    learner = subprocess.Popen(
        [sys.executable, "-c", LEARNER, cluster, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
    )
    *pids, copy = learner.stdout.readline().split()
    assert all(runs(int(pid)) for pid in pids)
    assert Path(copy).exists()
    learner.kill()
    learner.wait()
    learner.stdout.close()
    assert eventually(lambda: not any(runs(int(pid)) for pid in pids), within_s=60)
    assert eventually(lambda: not Path(copy).exists())


def test_closing_lets_calls_finish_and_may_be_repeated(tmp_path):
    with started(tmp_path, start=1) as worker:
        copy = worker.submit("directories").result(WAIT_S)[0]
        slow, last = worker.submit("sleep", 0.2), worker.submit("add", 1)
        worker.close(grace_s=WAIT_S)
        assert slow.result(WAIT_S) is None
        assert last.result(WAIT_S) == 2
    assert eventually(lambda: not any(map(runs, worker.pids(WAIT_S))))
    assert not copy.exists()


def test_a_hanging_call_is_ended_by_force(tmp_path):
    with started(tmp_path) as worker:
        hanging = worker.submit("sleep", 3600)
        pids = worker.pids(WAIT_S)
        os.kill(pids[1], signal.SIGSTOP)
        worker.close(grace_s=0.2)
        with pytest.raises(WorkerDiedError):
            hanging.result(WAIT_S)
    assert eventually(lambda: not any(map(runs, pids)))


def test_a_directory_that_is_there_is_used_and_another_is_brought(tmp_path, monkeypatch):
    source, cache = tmp_path / "model", tmp_path / "cache"
    source.mkdir()
    (source / "weights").write_bytes(b"\0\1")
    (source / "empty").touch()
    monkeypatch.setattr(parcels, "CACHE", cache)
    parcel = Parcel.of(source)
    assert parcel.unpack() == source
    (source / "weights").write_bytes(b"\0\2")  # another model by the same name
    brought = parcel.unpack()
    assert brought.parent == cache
    assert {path.name: path.read_bytes() for path in brought.iterdir()} == {
        "weights": b"\0\1",
        "empty": b"",
    }
    before = brought.stat().st_ino
    assert parcel.unpack().stat().st_ino == before  # once is enough
    (brought / "weights").write_bytes(b"\0")  # damaged
    assert (parcel.unpack() / "weights").read_bytes() == b"\0\1"


def test_a_worker_is_told_where_its_directories_are(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").touch()
    with started(tmp_path, needs=[Parcel.of(model)]) as worker:
        copy, found = worker.submit("directories").result(WAIT_S)
        assert copy.parent == SHARED_MEMORY
        assert found == model


def test_a_worker_needs_no_hand_off_directory(tmp_path):
    with started(needs=[Parcel.of(tmp_path)], start=3) as worker:
        worker.sync()
        assert worker.submit("directories").result(WAIT_S) == [tmp_path]
