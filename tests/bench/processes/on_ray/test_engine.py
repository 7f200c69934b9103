"""Runs whose engine is on the cluster: they are those of the inline source."""

import fcntl
import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray

from bench.config import Execution
from bench.engines.hf import HfEngine
from bench.errors import UserError
from bench.experiments.presets import preset
from bench.loop import train
from bench.processes.on_ray import worker
from bench.processes.shared_memory import PREFIX, SHARED_MEMORY
from bench.processes.worker import WorkerError
from bench.sources import OverlappedSource
from bench.sources import on_ray as engine
from bench.sources.handoff import Handoff, HandoffError
from bench.sources.host import Call
from bench.sources.on_ray import ray_launch
from bench.staleness import ON_POLICY, bounded, lag, reuse

from ....conftest import EOS, PAD
from ... import runs
from ...hosts import TagEngine, snapshot
from ...live_processes import eventually
from ...live_processes import runs as process_runs
from ...sources.test_faults import SAMPLING, STREAM, UPDATES, drive, expected
from .hosted import tag_engine

WAIT_S = 120.0
EXECUTION = Execution(source="overlapped", workers="ray")

pytestmark = [pytest.mark.usefixtures("cluster", "nothing_is_left"), pytest.mark.slow]


@pytest.fixture
def nothing_is_left():
    before = set(SHARED_MEMORY.glob(f"{PREFIX}*"))
    yield
    assert eventually(lambda: set(filter(abandoned, SHARED_MEMORY.glob(f"{PREFIX}*"))) <= before)


def abandoned(directory):
    """Return whether no process holds a directory; others' runs may go on beside this one."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("policy")
    runs.policy().save_pretrained(directory)
    return directory


@pytest.fixture
def launch(model_dir):
    build = partial(
        HfEngine.from_checkpoint,
        dtype="float32",
        device="cpu",
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    return ray_launch(build, model_dir, EXECUTION)


@pytest.fixture
def launch_tags(tmp_path):
    return ray_launch(tag_engine, tmp_path, EXECUTION)


def disturbed(config, launch, disturb=lambda _: None):
    """Return the outcome of a run and its source; disturbed when no schedule has all it needs.

    Of eight batches lag(2) asks for the last two after the fourth update, reuse(4) for four.
    """
    source = runs.overlapped(config, launch, EXECUTION)
    run, learner = runs.run(config, source)

    def on_progress(progress):
        if progress.step == 3:
            disturb(source)

    try:
        result = run.execute(on_progress)
    finally:
        source.close()
    return runs.outcome(result, learner), source


@pytest.mark.parametrize("schedule", [ON_POLICY, reuse(2), lag(1)], ids=str)
def test_lock_step_runs_are_the_inline_ones_to_the_last_bit(launch, schedule):
    config = runs.config(schedule)
    outcome, _ = disturbed(config, launch)
    assert outcome == runs.undisturbed(config)


def test_a_free_running_engine_stays_within_the_bound(launch):
    outcome, source = disturbed(runs.config(bounded(2)), launch)
    assert all(0 <= step["staleness"] <= 2 for step in outcome["steps"])
    assert {step["staleness"] for step in outcome["steps"]} != {0}
    # Though it runs on a clock of its own, it tells the times of this one.
    generated = [span for span in source.spans if span.name == "generate"]
    waited = [span for span in source.spans if span.name == "wait"]
    for one, other in zip(generated, waited, strict=True):
        assert one.end_s < other.end_s < one.end_s + 10


def test_a_run_as_a_preset_says_is_the_inline_one(smoke):
    config = preset("smoke").run_config("online_dpo", lag(1))
    far, here = train(config, smoke, execution=EXECUTION), train(config, smoke)

    def numbers(result):
        return [
            (s.loss, s.grad_norm, s.reward_mean, s.policy_version, s.rollout_version)
            for s in result.steps
        ] + [(e.win_rate, e.kl_nats, e.perplexity) for e in result.evals]

    assert numbers(far) == numbers(here)
    assert [sample.completion for sample in far.samples] == [s.completion for s in here.samples]
    assert far.outcomes == here.outcomes


def kill_agent(source):
    os.kill(source._worker.pids(WAIT_S)[0], signal.SIGKILL)


def kill_engine(source):
    os.kill(source._worker.pids(WAIT_S)[1], signal.SIGKILL)


def kill_actor(source):
    ray.kill(source._worker._agent)


@pytest.mark.parametrize(
    ("schedule", "kill"),
    [(lag(2), kill_agent), (reuse(4), kill_engine), (ON_POLICY, kill_actor)],
    ids=["agent", "engine", "actor"],
)
def test_a_killed_engine_changes_neither_weights_nor_metrics(launch, schedule, kill):
    config = runs.config(schedule)
    victims = []

    def disturb(source):
        victims.extend(source._worker.pids(WAIT_S))
        kill(source)

    outcome, source = disturbed(config, launch, disturb)
    restarts = [span for span in source.spans if span.name == "restart"]
    assert len(restarts) == 1
    assert outcome == runs.undisturbed(config)
    pids = [*victims, *source._worker.pids(WAIT_S)]
    assert eventually(lambda: not any(map(process_runs, pids)))


def tagged(launch, schedule):
    return OverlappedSource(
        launch, Handoff(), schedule, STREAM, SAMPLING, 5, batches=UPDATES, execution=EXECUTION
    )


def test_an_engine_killed_before_it_has_all_snapshots_gets_those_still_needed(launch_tags):
    source = tagged(launch_tags, lag(2))
    publish, killed = source.publish, []

    def publish_and_kill(snapshot):
        publish(snapshot)
        if snapshot.policy_version in (0, 2):
            killed.append(source._worker)
            kill_actor(source)

    source.publish = publish_and_kill
    assert drive(source) == expected(lag(2))
    assert len(set(killed)) == 2
    source.close()


def test_weights_that_change_on_their_way_stop_the_run(launch_tags, monkeypatch):
    def altered(file):
        content = file.read_bytes()
        # The last byte is one of a weight's; only version 2 is altered.
        last = content[-1] ^ (1 if file.stem.endswith("2") else 0)
        return ray.put(np.frombuffer(content[:-1] + bytes([last]), np.uint8))

    monkeypatch.setattr(worker, "put", altered)
    source = tagged(launch_tags, ON_POLICY)
    with pytest.raises(HandoffError, match=r"version 2 has checksum \w+, the engine loaded \w+$"):
        drive(source)
    source.close()


def test_after_the_allowed_restarts_the_run_fails_in_one_line(launch_tags, monkeypatch):
    source = tagged(launch_tags, lag(1))
    source._execution = replace(EXECUTION, max_restarts=1)
    submit = worker.RayWorker.submit

    def submit_and_kill(self, *args):
        self.ready.result(WAIT_S)
        ray.kill(self._agent)
        return submit(self, *args)

    monkeypatch.setattr(worker.RayWorker, "submit", submit_and_kill)
    with pytest.raises(WorkerError, match=r"^the engine failed 2 times, at last: the "):
        drive(source)
    source.close()


def test_an_engine_tells_the_learners_time(tmp_path):
    """The engine's machine was started 100 s after the learner's, whose clock is ahead as much."""
    handoff = Handoff(tmp_path)
    handoff.write(snapshot(0))
    host = engine.RemoteHost(TagEngine, handoff.directory, engine._epoch_s() - 100)
    start = time.perf_counter()
    spans = host.generate(Call(0, 0, STREAM.batch(0), SAMPLING, [0] * 6)).spans
    end = time.perf_counter()
    assert [span.name for span in spans] == ["load", "generate"]
    for span in spans:
        assert start + 99 < span.start_s <= span.end_s < end + 101
    handoff.close()


def test_more_than_any_machine_has_is_refused_in_one_line(model_dir):
    execution = replace(EXECUTION, engine_cpus=64)
    with pytest.raises(UserError) as raised:
        ray_launch(tag_engine, model_dir, execution)
    assert str(raised.value) == (
        "the engine asks for 64 CPUs and 0 GPUs, no machine of the Ray cluster has as many "
        "(they have 1 CPUs, 0 GPUs)"
    )
    with pytest.raises(UserError, match="asks for 1 CPUs and 2 GPUs"):
        ray_launch(tag_engine, model_dir, replace(EXECUTION, engine_gpus=2))
