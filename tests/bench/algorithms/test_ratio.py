"""Interpolated proximal log-probs, and the off-policy mask of negative advantages."""

import math
from dataclasses import replace

import pytest
import torch

from bench.algorithms import ALGORITHMS, build
from bench.algorithms.base import Outputs
from bench.algorithms.ratio import RatioAlgorithm
from bench.learning import diagnostics

RATIO_ALGORITHMS = [name for name, cls in ALGORITHMS.items() if issubclass(cls, RatioAlgorithm)]


@pytest.mark.parametrize("padding", [-9.0, math.inf, math.nan])
def test_interpolated_proximal_logprobs_by_hand(fixture_batch, padding):
    # One update old: proximal lies half-way between behaviour and new. So new / proximal is
    # e^.15, e^-.1, e^.7 | e^-.5, e^.15, and so is the weight; the third and fourth are clipped.
    inputs, th = fixture_batch(padding)
    inputs = replace(inputs, proximal_logprobs=None, policy_version=1)
    ppo = build("ppo", {"completions_per_prompt": 2, "old_logprobs": "interpolated"})
    batch = ppo.prepare(inputs)
    sign = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).expand_as(th)
    batch = replace(batch, targets={**batch.targets, "advantages": sign})
    out = ppo.loss(Outputs(th.requires_grad_(), torch.zeros_like(th)), batch)
    assert out.metrics["policy_loss"] == pytest.approx(-0.550002, abs=5e-7)
    (gradient,) = torch.autograd.grad(out.loss, th)
    expected = [-0.269972, -0.163746, 0, 0, 0.269972, 0]
    assert gradient.flatten().tolist() == pytest.approx(expected, abs=5e-7)


def test_interpolation_is_by_the_age_of_each_token(fixture_batch):
    inputs, th = fixture_batch(0.0)
    rollouts = replace(inputs.scored.rollouts, token_versions=torch.tensor([[4, 3, 1], [4, 4, -1]]))
    inputs = replace(inputs, scored=replace(inputs.scored, rollouts=rollouts), policy_version=4)
    grpo = build("grpo", {"old_logprobs": "interpolated"})
    inputs = replace(inputs, proximal_logprobs=None)
    ratio = grpo.ratio(Outputs(th), grpo.prepare(inputs))
    # s / (s + 1) of .3, -.2, 1.4 | -1, .3: 0, 1/2, 3/4 | 0, 0; the ratio has the rest.
    assert ratio.weights.log().flatten().tolist() == pytest.approx([0, -0.1, 1.05, 0, 0, 0])
    assert ratio.log_ratio.flatten().tolist() == pytest.approx([0.3, -0.1, 0.35, -1, 0.3, 0])


@pytest.mark.parametrize("padding", [-9.0, math.inf, math.nan])
def test_mask_of_negative_advantages_by_hand(fixture_batch, padding):
    # GRPO at A = +-1: mean behaviour - new is -.5 | .35, so at .3 the second completion goes.
    inputs, th = fixture_batch(padding)
    inputs = replace(inputs, proximal_logprobs=None)
    grpo = build("grpo", {"kl_coef": 0.0, "negative_mask_nats": 0.3})
    batch = grpo.prepare(inputs)
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    batch = replace(batch, targets={**batch.targets, "advantages": sign})
    out = grpo.loss(Outputs(th.requires_grad_()), batch)
    (gradient,) = torch.autograd.grad(out.loss, th)
    assert out.loss.item() == pytest.approx(-0.536455, abs=5e-7)
    expected = [0, -0.136455, 0, 0, 0, 0]
    assert gradient.flatten().tolist() == pytest.approx(expected, abs=5e-7)
    found = diagnostics.as_columns(diagnostics.of_loss(gradient, inputs.mask, out.limits))
    assert (found["mask_fraction_positive"], found["mask_fraction_negative"]) == (0.0, 1.0)


@pytest.mark.parametrize("name", RATIO_ALGORITHMS)
@pytest.mark.parametrize("limit", [0.01, 0.05])
def test_mask_of_negative_advantages_is_trls(random_batch, name, limit):
    from trl.trainer.grpo_trainer import GRPOTrainer

    inputs, new, values = random_batch(seed=1, prompts=8)
    algorithm = build(name, {"completions_per_prompt": 2, "negative_mask_nats": limit})
    batch = algorithm.prepare(inputs)
    advantages = batch.targets["advantages"]
    advantages = advantages if advantages.dim() == 2 else advantages[:, None]
    expected = GRPOTrainer.get_off_policy_mask(
        advantages, new, inputs.behaviour_logprobs, inputs.mask.double(), limit
    )
    weights = algorithm.ratio(Outputs(new, values), batch).weights
    assert 0 < (expected == 0).sum() < expected.numel()
    assert torch.equal(weights, expected.view_as(weights))
