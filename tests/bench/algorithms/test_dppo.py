import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs


def test_loss_and_gradient_by_hand(loss_of_fixture):
    # Probabilities move by .1287, -.1099, .2269 | -.5175, .1054: the third of the first completion
    # and the first of the second are masked. Terms -A r log pi: .944901, .573112 | -1.214873.
    loss, gradient, metrics = loss_of_fixture("dppo", advantage=1.0)
    assert loss == pytest.approx(0.060628, abs=5e-7)
    assert gradient == pytest.approx([-0.269972, -0.163746, 0, 0, 0.269972], abs=5e-7)
    assert metrics["mask_fraction"] == pytest.approx(0.4)


def test_with_a_square_its_gradient_is_prime_rls(loss_of_fixture):
    # 2 * 1e-3 * d / 5 of d = .3, -.2, 1.4 | -1, .3 is added.
    _, gradient, _ = loss_of_fixture("dppo", advantage=1.0, square_coef=1e-3)
    expected = [-0.269852, -0.163826, 0.000560, -0.000400, 0.270092]
    assert gradient == pytest.approx(expected, abs=5e-7)


def test_a_ratio_is_truncated_and_keeps_its_gradient(loss_of_fixture):
    _, gradient, metrics = loss_of_fixture("dppo", advantage=1.0, ratio_max=1.1, change_high=0.3)
    # Ratios 1.35, .82, 4.06 | masked, 1.35.
    assert gradient == pytest.approx([-0.22, -0.163746, -0.22, 0, 0.22], abs=5e-7)
    assert metrics["clip_fraction"] == pytest.approx(3 / 5)


def test_on_policy_it_is_reinforce_with_the_same_advantages(random_batch):
    inputs, _, _ = random_batch(seed=0, k=4)
    algorithm = build("dppo", {"completions_per_prompt": 4})
    batch = algorithm.prepare(inputs)
    new = inputs.old_logprobs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(algorithm.loss(Outputs(new), batch).loss, new)
    expected = -batch.targets["advantages"][:, None] * batch.mask / batch.mask.sum()
    torch.testing.assert_close(gradient, expected)
