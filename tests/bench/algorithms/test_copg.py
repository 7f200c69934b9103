import itertools

import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs
from bench.algorithms.functional import leave_one_out


def test_loss_of_two_by_hand(make_inputs):
    inputs = make_inputs(
        k=2,
        rewards=[1.0, 0.0],
        mask=[[1, 1], [1, 0]],
        old=[[0.0, 0.0], [0.0, 0.0]],
        ref=[[-1.0, -1.0], [-1.0, 0.0]],
    )
    copg = build("copg", {"beta": 0.1})
    new = torch.tensor([[-1.0, -0.5], [-1.5, 0.0]], dtype=torch.float64)
    out = copg.loss(Outputs(new), copg.prepare(inputs))
    # new - ref = 0.5, -0.5: R = 1 - 0.05 = 0.95 and 0.05; (0.9)^2 / (4 * 0.1) = 2.025
    assert out.loss.item() == pytest.approx(2.025)
    assert out.metrics == {
        "advantage_std": pytest.approx(0.9),
        "kl_ref_mean": pytest.approx(0.0),
    }


def test_loss_of_three_by_hand(make_inputs):
    zeros = [[0.0]] * 3
    inputs = make_inputs(k=3, rewards=[1.0, 2.0, 4.0], mask=[[1]] * 3, old=zeros, ref=zeros)
    copg = build("copg", {"beta": 0.5, "completions_per_prompt": 3})
    out = copg.loss(Outputs(torch.zeros(3, 1, dtype=torch.float64)), copg.prepare(inputs))
    # Pairs: 1 + 9 + 4 = 14; 14 / (2 * 0.5 * 3 * 2) = 7 / 3
    assert out.loss.item() == pytest.approx(7 / 3)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_loss_equals_a_naive_loop_over_pairs(random_batch, k):
    inputs, new, _ = random_batch(seed=k, k=k)
    copg = build("copg", {"completions_per_prompt": k})
    mask, ref = inputs.scored.rollouts.completion_mask, inputs.scored.ref_logprobs
    total, prompts = 0.0, len(mask) // k
    for first in range(0, len(mask), k):
        rewards = []
        for row in range(first, first + k):
            kl = sum((new[row, t] - ref[row, t]).item() for t in range(int(mask[row].sum())))
            rewards.append(inputs.scored.rewards[row].item() - 0.05 * kl)
        pairs = itertools.combinations(rewards, 2)
        total += sum((a - b) ** 2 for a, b in pairs) / (2 * 0.05 * k * (k - 1))
    out = copg.loss(Outputs(new), copg.prepare(inputs))
    assert out.loss.item() == pytest.approx(total / prompts, rel=1e-10)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_gradient_is_that_of_leave_one_out_advantages(random_batch, k):
    inputs, new, _ = random_batch(seed=k, k=k)
    copg = build("copg", {"completions_per_prompt": k})
    batch = copg.prepare(inputs)
    new.requires_grad_()
    (gradient,) = torch.autograd.grad(copg.loss(Outputs(new), batch).loss, new)
    kl = ((new.detach() - inputs.scored.ref_logprobs) * batch.mask).sum(1)
    advantages = leave_one_out(inputs.scored.rewards - 0.05 * kl, k)
    # -(1 / K) A_i for each token of completion i, averaged over the prompts: -A_i / R
    torch.testing.assert_close(gradient, -advantages[:, None] * batch.mask / len(advantages))


def test_gradient_on_policy_is_that_of_vanilla_rloo(random_batch):
    inputs, _, _ = random_batch(seed=9, k=4)
    gradients = []
    for name, coefficient in (("copg", "beta"), ("rloo_vanilla", "kl_coef")):
        algorithm = build(name, {"completions_per_prompt": 4, coefficient: 0.3})
        new = inputs.old_logprobs.clone().requires_grad_()
        algorithm.loss(Outputs(new), algorithm.prepare(inputs)).loss.backward()
        gradients.append(new.grad)
    torch.testing.assert_close(*gradients)
