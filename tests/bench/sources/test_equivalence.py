"""Overlapped runs and inline runs are one experiment, bit for bit, whatever the timing."""

import random
import time
from functools import partial

import pytest

from bench.processes.local import LocalWorker
from bench.staleness import ON_POLICY, bounded, lag, reuse

from ...conftest import EOS, PAD
from .. import runs
from ..hosts import EXECUTION, ResettableHost, Shared


@pytest.fixture(scope="module")
def engine_process(tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("model")
    runs.policy().save_pretrained(model_dir)
    worker = LocalWorker(partial(ResettableHost, model_dir, PAD, EOS), threads=1)
    yield worker
    worker.close()


def overlapped(engine_process, config, engine_s, learner_s):
    """Return the outcome of a run with random delays of up to so long on each side."""
    delays = random.Random(config.seed)

    def launch(directory):
        return Shared(engine_process, directory, engine_s, config.seed)

    source = runs.overlapped(config, launch, EXECUTION)
    try:
        run, learner = runs.run(config, source, lambda: time.sleep(learner_s * delays.random()))
        result = run.execute()
    finally:
        source.close()
    return result, runs.outcome(result, learner)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("engine_s", "learner_s"), [(0.0, 0.05), (0.05, 0.0), (0.02, 0.02)])
@pytest.mark.parametrize("schedule", [ON_POLICY, reuse(2), reuse(4), lag(1), lag(3)], ids=str)
def test_overlapped_equals_inline_bit_for_bit(engine_process, schedule, seed, engine_s, learner_s):
    config = runs.config(schedule, seed=seed)
    expected = runs.undisturbed(config)
    _, found = overlapped(engine_process, config, engine_s, learner_s)
    assert found == expected


def test_a_value_model_and_a_recomputed_old_policy_change_nothing(engine_process):
    config = runs.config(lag(2), algorithm="ppo")
    _, found = overlapped(engine_process, config, 0.0, 0.01)
    assert found == runs.undisturbed(config)


def test_the_outcome_tells_seeds_and_schedules_apart():
    outcomes = [
        runs.undisturbed(runs.config(schedule, seed=seed))["weights"]
        for schedule, seed in ((lag(1), 0), (lag(1), 1), (lag(2), 0), (ON_POLICY, 0))
    ]
    assert all(a != b for i, a in enumerate(outcomes) for b in outcomes[:i])


@pytest.mark.parametrize(("engine_s", "learner_s"), [(0.0, 0.05), (0.05, 0.0)])
def test_bounded_staleness_is_measured_at_use_and_within_the_bound(
    engine_process, engine_s, learner_s
):
    result, _ = overlapped(engine_process, runs.config(bounded(2)), engine_s, learner_s)
    assert [step.staleness for step in result.steps] == [
        step.step - step.rollout_version for step in result.steps
    ]
    assert max(step.staleness for step in result.steps) <= 2
    assert all(step.metrics["checksum_ok"] == 1.0 for step in result.steps)
    # The weights are the version's that the batch carries: fresh batches have no log-prob gap.
    for step in result.steps:
        assert (step.logprob_gap_mean < 1e-5) == (step.staleness == 0)
