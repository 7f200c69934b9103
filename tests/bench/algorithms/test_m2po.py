import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs
from bench.algorithms.m2po import clip_bound

ALL = 1e9  # a budget that everything fits


@pytest.mark.parametrize(
    ("budget", "loss", "gradient", "share"),
    [
        # S has squares .09 and 1.96 of the first completion, 1.0 of the second. At .04 all go.
        (0.04, 0.106226, [0, -0.163746, 0, 0, 0.269972], 0.6),
        # (.09 + 1.0 + 1.96) / 3 = 1.02 does not fit .6; (.09 + 1.0) / 2 does.
        (0.6, -0.090170, [-0.269972, -0.163746, 0, 0.073576, 0.269972], 0.2),
    ],
)
def test_mask_by_hand(loss_of_fixture, budget, loss, gradient, share):
    found, slope, metrics = loss_of_fixture("m2po", advantage=1.0, budget=budget)
    assert found == pytest.approx(loss, abs=5e-7)
    assert slope == pytest.approx(gradient, abs=5e-7)
    assert metrics["mask_fraction"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("budget", "loss"),
    [
        (0.04, -0.093774),  # 3 * .09 > 3 * .04: tau = 0, ratios are clipped to 1
        (0.6, -0.285554),  # .09 * 3 <= 1.8 < .09 + 2 * 1.0: tau = .3
    ],
)
def test_clip_of_the_authors_code_by_hand(loss_of_fixture, budget, loss):
    found, gradient, _ = loss_of_fixture("m2po", advantage=1.0, budget=budget, form="clip")
    assert found == pytest.approx(loss, abs=5e-7)
    # But for the first token, whose ratio at .6 is the bound itself.
    assert gradient[1:] == pytest.approx([-0.163746, 0, 0, 0.269972], abs=5e-7)


def test_bound_of_the_authors_code_is_the_last_square_that_fits():
    squares = torch.tensor([4.0, 1.0, 0.25]).double()
    # Sums of min(d^2, tau^2): .75, 2.25, 5.25; the budget counts three times.
    for budget, tau in ((0.2, 0.0), (0.25, 0.5), (0.74, 0.5), (0.75, 1.0), (1.75, 2.0)):
        assert clip_bound(squares, budget).item() == tau
    assert clip_bound(squares[:0], 1.0).item() == 0.0


def test_with_a_budget_for_all_its_gradient_is_that_of_cispo_without_a_bound(random_batch):
    inputs, new, _ = random_batch(seed=0, k=4)
    new.requires_grad_()
    gradients = []
    for name, params in (("m2po", {"budget": ALL}), ("cispo", {"ratio_max": 1e9})):
        algorithm = build(name, {"completions_per_prompt": 4, **params})
        loss = algorithm.loss(Outputs(new), algorithm.prepare(inputs)).loss
        gradients.append(torch.autograd.grad(loss, new)[0])
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_without_a_budget_it_masks_all_that_moves_with_its_advantage(random_batch):
    inputs, new, _ = random_batch(seed=0, k=4)
    algorithm = build("m2po", {"completions_per_prompt": 4, "budget": 0.0})
    batch = algorithm.prepare(inputs)
    (gradient,) = torch.autograd.grad(
        algorithm.loss(Outputs(new.requires_grad_()), batch).loss, new
    )
    moves = (new - inputs.old_logprobs) * batch.targets["advantages"][:, None] > 0
    assert torch.equal(gradient[batch.mask] == 0, moves[batch.mask])


@pytest.mark.parametrize("form", ["mask", "clip"])
def test_on_policy_it_is_reinforce_with_the_same_advantages(random_batch, form):
    inputs, _, _ = random_batch(seed=0, k=4)
    algorithm = build("m2po", {"completions_per_prompt": 4, "form": form})
    batch = algorithm.prepare(inputs)
    new = inputs.old_logprobs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(algorithm.loss(Outputs(new), batch).loss, new)
    expected = -batch.targets["advantages"][:, None] * batch.mask / batch.mask.sum()
    torch.testing.assert_close(gradient, expected)
