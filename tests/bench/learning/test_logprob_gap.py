from dataclasses import replace

import pytest
import torch

from bench.engines.hf import HfEngine
from bench.learning.logprob_gap import LogprobGap
from bench.learning.logprobs import completion_logprobs
from bench.learning.sequences import Sequences
from bench.randomness import sample_seeds
from bench.types import Sampling, WeightSnapshot

from ...conftest import EOS, PAD
from ..runs import policy as random_policy


@pytest.fixture
def rollouts(policy, prompts):
    """Return 24 rows of version 0."""
    engine = HfEngine(policy, pad_token_id=PAD, eos_token_id=EOS)
    return engine.generate(prompts, Sampling(0.7, 8, 4), sample_seeds(0, 0, prompts, 4))


def snapshot(model, version=0):
    return WeightSnapshot(version, {name: v.clone() for name, v in model.state_dict().items()})


def other_policy():
    model = random_policy()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@torch.no_grad()
def naive(model, rollouts, rows, version=None):
    """Return the mean gap of some rows' tokens, of one version or of all."""
    logprobs = completion_logprobs(model, Sequences.of(rollouts), 0.7)
    gaps = [
        abs(float(logprobs[r, t] - rollouts.logprobs[r, t]))
        for r in rows
        for t in range(rollouts.completion_mask.shape[1])
        if rollouts.completion_mask[r, t]
        and (version is None or int(rollouts.token_versions[r, t]) == version)
    ]
    return sum(gaps) / len(gaps)


def test_own_weights_are_near_and_others_as_far_as_they_are(policy, rollouts):
    gap = LogprobGap(random_policy(), 0.7)
    other = other_policy()
    for _ in range(2):  # whatever was compared before
        assert gap(rollouts, snapshot(policy)) < 1e-5
        assert gap(rollouts, snapshot(other)) == pytest.approx(naive(other, rollouts, range(16)))
    assert naive(other, rollouts, range(16)) > 0.5
    assert naive(other, rollouts, range(16)) != pytest.approx(naive(other, rollouts, range(24)))


def test_the_policy_that_is_trained_is_left_alone(policy, rollouts):
    trained = random_policy()
    LogprobGap(trained, 0.7)(rollouts, snapshot(other_policy()))
    for name, value in policy.state_dict().items():
        assert torch.equal(trained.state_dict()[name], value)


def test_only_tokens_that_the_version_sampled_count(policy, rollouts):
    versions = torch.full_like(rollouts.completion_tokens, 3)
    versions[10:, 2:] = 4
    mixed = replace(
        rollouts,
        policy_version=3,
        token_versions=versions.where(rollouts.completion_mask, -1),
    )
    other = other_policy()
    long = [r for r in range(10, 24) if int(rollouts.completion_mask[r].sum()) > 2]
    assert 0 < len(long) <= 16
    found = LogprobGap(policy, 0.7)(mixed, snapshot(other, 4))
    assert found == pytest.approx(naive(other, mixed, long, version=4))
