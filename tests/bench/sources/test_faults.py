"""Workers that are really killed, hang, or raise: the batches are those of an undisturbed run."""

import os
import signal
import time
from dataclasses import replace
from functools import partial

import pytest

from bench.assembly import local_launch
from bench.config import Execution
from bench.errors import UserError
from bench.processes.local import LocalWorker
from bench.processes.worker import WorkerError
from bench.randomness import PromptStream
from bench.sources import InlineSource, OverlappedSource
from bench.sources.handoff import Handoff
from bench.staleness import bounded, lag, reuse
from bench.types import Prompt, Sampling

from .. import runs
from ..hosts import EXECUTION, Fault, FaultyHost, TagEngine, snapshot
from ..live_processes import runs as process_runs
from ..processes.counter import Counter

UPDATES = 6
SAMPLING = Sampling(1.0, 3, 2)
STREAM = PromptStream([Prompt(i, (i,)) for i in range(3 * UPDATES)], 3, seed=0)


def expected(schedule):
    source = InlineSource(TagEngine(), schedule, STREAM, SAMPLING, seed=5)
    return drive(source)


def drive(source):
    """Run the loop; return everything that the batches say."""
    batches = []
    source.publish(snapshot(0))
    for step in range(UPDATES):
        batches.append(source.next().completion_tokens.tolist())
        if source.wants(step + 1):
            source.publish(snapshot(step + 1))
    return batches


class Faulty:
    """A source whose workers go wrong as told; remembers them."""

    def __init__(self, record, schedule, fault, execution=EXECUTION):
        self.workers = []
        self._record, self._fault = record, fault
        self.handoff = Handoff()
        self.source = OverlappedSource(
            self._launch,
            self.handoff,
            schedule,
            STREAM,
            SAMPLING,
            seed=5,
            batches=UPDATES,
            execution=execution,
        )

    def _launch(self, directory):
        host = partial(FaultyHost, TagEngine, directory, self._record, self._fault)
        worker = LocalWorker(host, name="the engine", run_directory=directory)
        self.workers.append(worker)
        return worker

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.source.close()
        assert not self.handoff.directory.exists()
        assert not any(process_runs(worker.pid) for worker in self.workers)


@pytest.mark.parametrize(
    ("schedule", "fault"),
    [
        (lag(1), Fault("generate", 3, "kill")),
        (lag(2), Fault("load", 4, "kill", times=2)),
        (reuse(3), Fault("generate", 1, "raise")),
        (lag(1), Fault("load", 3, "raise")),
    ],
    ids=str,
)
def test_a_worker_that_fails_is_replaced_and_the_batches_are_the_same(tmp_path, schedule, fault):
    with Faulty(tmp_path, schedule, fault) as run:
        assert drive(run.source) == expected(schedule)
        assert len(run.workers) == 1 + fault.times
        restarts = [span for span in run.source.spans if span.name == "restart"]
        assert [span.step for span in restarts] == [fault.index] * fault.times


def test_a_worker_that_hangs_is_replaced_and_the_batches_are_the_same(tmp_path):
    # A busy machine may take longer than the limit, too: that is a restart more.
    execution = replace(EXECUTION, timeout_s=3.0, max_restarts=20)
    with Faulty(tmp_path, reuse(2), Fault("generate", 3, "hang"), execution) as run:
        assert drive(run.source) == expected(reuse(2))
        assert len(run.workers) >= 2
    assert len(list(tmp_path.iterdir())) == 1  # it did hang


def test_a_worker_killed_from_outside_while_idle_is_replaced(tmp_path):
    with Faulty(tmp_path, lag(1), Fault("never", 0, "")) as run:
        run.source.publish(snapshot(0))
        found = [run.source.next()]
        os.kill(run.workers[0].pid, signal.SIGKILL)
        start = time.monotonic()
        for step in range(1, UPDATES):
            run.source.publish(snapshot(step))
            found.append(run.source.next())
        assert time.monotonic() - start < 200  # not the 300 s that a batch may take
    assert [batch.completion_tokens.tolist() for batch in found] == expected(lag(1))


def test_after_the_allowed_restarts_the_run_fails_in_one_line(tmp_path):
    execution = replace(EXECUTION, max_restarts=1)
    fault = Fault("generate", 2, "raise", times=99)
    with Faulty(tmp_path, lag(1), fault, execution) as run:
        with pytest.raises(
            WorkerError,
            match=r"^the engine failed 2 times, at last: RuntimeError: the engine has no opinion$",
        ) as caught:
            drive(run.source)
        assert "in _perhaps" in caught.value.details
        assert len(run.workers) == 2


def test_a_free_running_engine_is_replaced_too_and_stays_within_the_bound(tmp_path):
    with Faulty(tmp_path, bounded(2), Fault("generate", 3, "kill")) as run:
        batches = drive(run.source)
    staleness = [step - rows[0][0] for step, rows in enumerate(batches)]
    assert all(0 <= s <= 2 for s in staleness)
    trained = sorted(row[1] for rows in batches for row in rows[:: SAMPLING.completions_per_prompt])
    assert trained == list(range(3 * UPDATES))


def test_a_worker_killed_while_it_starts_is_replaced_and_the_batches_are_the_same(tmp_path):
    with Faulty(tmp_path, lag(1), Fault("start", 0, "kill", times=2)) as run:
        run.source.wait_until_started()
        assert len(run.workers) == 3
        assert drive(run.source) == expected(lag(1))
        assert len(run.workers) == 3


def test_a_worker_that_always_dies_while_it_starts_fails_the_run_in_one_line(tmp_path):
    execution = replace(EXECUTION, max_restarts=1)
    fault = Fault("start", 0, "kill", times=99)
    with Faulty(tmp_path, lag(1), fault, execution) as run:
        with pytest.raises(
            WorkerError,
            match=r"^the engine failed 2 times, at last: the engine was killed by SIGKILL$",
        ):
            run.source.wait_until_started()
        assert len(run.workers) == 2


def test_an_engine_that_refuses_to_start_is_not_started_again(tmp_path):
    with Faulty(tmp_path, lag(1), Fault("start", 0, "refuse", times=99)) as run:
        with pytest.raises(UserError, match=r"^the engine wants another model$"):
            run.source.wait_until_started()
        assert len(run.workers) == 1


@pytest.mark.parametrize(
    ("fail", "kind", "message"),
    [
        ("raise", UserError, r"^the engine cannot start: ValueError: no model by that name$"),
        (
            "exit",
            WorkerError,
            r"^the engine failed 2 times, at last: worker exited with status 1: "
            r"the loader gave up$",
        ),
    ],
)
def test_an_engine_that_cannot_start_shows_its_own_message(fail, kind, message):
    def launch(_directory):
        return LocalWorker(partial(Counter, fail=fail))

    execution = replace(EXECUTION, max_restarts=1)
    source = OverlappedSource(
        launch, Handoff(), lag(1), STREAM, SAMPLING, 5, batches=UPDATES, execution=execution
    )
    with pytest.raises(kind, match=message):
        source.wait_until_started()
    source.close()


def test_a_killed_hugging_face_engine_changes_neither_weights_nor_metrics(tmp_path):
    runs.policy().save_pretrained(tmp_path)
    config = runs.config(lag(2))
    launch = local_launch(runs.hf_factory(tmp_path), Execution())
    source = runs.overlapped(config, launch, EXECUTION)
    run, learner = runs.run(config, source)
    victims = [source._worker.pid]

    def kill(progress):
        if progress.step == 3:
            os.kill(victims[0], signal.SIGKILL)

    result = run.execute(kill)
    victims.append(source._worker.pid)
    source.close()
    assert victims[0] != victims[1]
    assert runs.outcome(result, learner) == runs.undisturbed(config)
    assert not any(process_runs(pid) for pid in victims)
