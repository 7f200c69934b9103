import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs


def test_loss_and_gradient_by_hand(loss_of_fixture):
    loss, gradient, _ = loss_of_fixture("sapo", advantage=1.0)
    # Gates 4 sigmoid(r - 1) at 1.349859, .818731, 4.055200: 2.346364, 1.819236, 3.819928, over 3;
    # 4 / 1.05 sigmoid(1.05 (r - 1)) at .367879, 1.349859: 1.294156, 2.252084, over 2; over 2.
    assert loss == pytest.approx(-0.444529, abs=5e-7)
    expected = [-0.218230, -0.135340, -0.116166, 0.082541, 0.326331]
    assert gradient == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("k", [2, 4])
def test_loss_equals_trl(random_batch, trl_grpo_loss, k):
    inputs, new, _ = random_batch(seed=k, k=k)
    sapo = build("sapo", {"completions_per_prompt": k})
    batch = sapo.prepare(inputs)
    old, advantages = batch.old_logprobs, batch.targets["advantages"]
    expected = trl_grpo_loss(new, old, old, batch.mask, advantages, loss_type="sapo")
    # TRL's temperatures are in single precision.
    assert sapo.loss(Outputs(new), batch).loss.item() == pytest.approx(expected.item(), rel=5e-6)


def test_on_policy_it_is_reinforce_with_the_same_advantages(random_batch):
    inputs, _, _ = random_batch(seed=0, k=4)
    algorithm = build("sapo", {"completions_per_prompt": 4})
    batch = algorithm.prepare(inputs)
    new = inputs.old_logprobs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(algorithm.loss(Outputs(new), batch).loss, new)
    expected = (
        -batch.targets["advantages"][:, None]
        * batch.mask
        / (batch.mask.sum(1, keepdim=True) * len(batch.mask))
    )
    torch.testing.assert_close(gradient, expected)
