import math

import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs


def test_loss_and_gradient_by_hand(loss_of_fixture):
    # W = e^1.5, e^-.7: phi = W^2 exp(3 (1 - W)) = 5.843e-4 and W^3 exp(2 (1 - W)) = .335152.
    loss, gradient, metrics = loss_of_fixture("vespo", kl_coef=0.0)
    assert loss == pytest.approx(-0.070230, abs=5e-7)
    good, bad = 0.000584317, 0.335152171
    # A = +-.5, over five tokens.
    assert gradient == pytest.approx([-good / 10] * 3 + [bad / 10] * 2, abs=1e-9)
    assert metrics["phi_mean"] == pytest.approx((good + bad) / 2, abs=1e-9)


@pytest.mark.parametrize("k", [2, 4])
def test_loss_equals_trl(random_batch, trl_grpo_loss, k):
    inputs, new, _ = random_batch(seed=k, k=k)
    vespo = build("vespo", {"completions_per_prompt": k})
    batch = vespo.prepare(inputs)
    old, advantages = batch.old_logprobs, batch.targets["advantages"]
    expected = trl_grpo_loss(new, old, old, batch.mask, advantages, loss_type="vespo")
    assert vespo.loss(Outputs(new), batch).loss.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("shift", [-900.0, -3.0, -0.4, 0.4, 900.0])
def test_weight_is_largest_where_w_is_k_over_lambda(make_inputs, shift):
    row = [[-1.0], [-1.0]]
    inputs = make_inputs(k=2, rewards=[1.0, 0.0], mask=[[1], [1]], old=row, ref=row)
    vespo = build("vespo")
    new = torch.tensor(row).double() + shift
    phi = vespo.loss(Outputs(new), vespo.prepare(inputs)).metrics["phi_mean"]
    bounds = [(k / b) ** k * math.exp(b - k) for k, b in ((2, 3), (3, 2))]
    assert 0 <= phi <= sum(bounds) / 2


def test_on_policy_it_is_reinforce_with_the_same_advantages(random_batch):
    inputs, _, _ = random_batch(seed=0, k=4)
    algorithm = build("vespo", {"completions_per_prompt": 4})
    batch = algorithm.prepare(inputs)
    new = inputs.old_logprobs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(algorithm.loss(Outputs(new), batch).loss, new)
    expected = -batch.targets["advantages"][:, None] * batch.mask / batch.mask.sum()
    torch.testing.assert_close(gradient, expected)
