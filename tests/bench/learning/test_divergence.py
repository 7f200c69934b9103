"""Rewards and behaviour log-probs that are no numbers end a run as diverged, for every loss."""

from dataclasses import replace

import pytest
import torch

from bench.algorithms import ALGORITHMS
from bench.staleness import ON_POLICY

from .. import runs

AT = 1  # the update whose batch is spoilt


class Spoilt:
    """A source whose batch ``AT`` has one log-prob that is no number."""

    def __init__(self, source, value):
        self._source = source
        self._value = value
        self._index = 0

    def __getattr__(self, name):
        return getattr(self._source, name)

    def next(self):
        rollouts = self._source.next()
        self._index += 1
        if self._index != AT + 1:
            return rollouts
        return replace(rollouts, logprobs=one(rollouts.logprobs, self._value))


def one(numbers, value):
    """Return a copy whose last row has ``value`` in its first place."""
    copy = numbers.clone()
    copy.view(len(copy), -1)[-1, 0] = value
    return copy


def spoil_rewards(learner, value):
    """Make one reward of batch ``AT`` no number."""
    score = learner.scorer.score

    def spoilt(*args, **kwargs):
        scored = score(*args, **kwargs)
        if learner.policy_version != AT:
            return scored
        return replace(scored, rewards=one(scored.rewards, value))

    learner.scorer.score = spoilt


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("what", ["reward", "logprob"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_no_number_is_a_divergence_before_the_optimiser_step(algorithm, what, value):
    config = runs.config(ON_POLICY, algorithm=algorithm)
    source = runs.inline(config)
    run, learner = runs.run(config, Spoilt(source, value) if what == "logprob" else source)
    if what == "reward":
        spoil_rewards(learner, value)
    after = []
    result = run.execute(lambda _: after.append(runs.weights(learner)))
    assert (result.status, result.diverged_at) == ("diverged", AT)
    assert len(result.steps) == AT + 1
    assert len(after) == AT
    for name, weights in runs.weights(learner).items():
        assert torch.equal(weights, after[-1][name])
