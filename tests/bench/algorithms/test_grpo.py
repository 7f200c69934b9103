import math
from dataclasses import replace

import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs
from bench.algorithms.functional import clipped_surrogate, group_normalised


def test_group_normalised_by_hand():
    # (0, 2): mean 1, std sqrt 2.  (0, 3, 6): mean 3, std 3.  Equal rewards: 0 / 1e-4 = 0.
    two = torch.tensor([0.0, 2.0, 5.0, 5.0], dtype=torch.float64)
    expected = 1 / (math.sqrt(2) + 1e-4)
    assert group_normalised(two, 2).tolist() == pytest.approx([-expected, expected, 0.0, 0.0])
    three = torch.tensor([0.0, 3.0, 6.0], dtype=torch.float64)
    assert group_normalised(three, 3).tolist() == pytest.approx([-3 / 3.0001, 0.0, 3 / 3.0001])


def test_loss_by_hand(make_inputs):
    # A = -+c with c = 1 / (sqrt 2 + 1e-4). Ratios: row 0 (1.5, 1), row 1 (1.5); ref = old.
    inputs = make_inputs(
        k=2,
        rewards=[0.0, 2.0],
        mask=[[1, 1], [1, 0]],
        old=[[-1.0, -1.0], [-2.0, 0.0]],
        ref=[[-1.0, -1.0], [-2.0, 0.0]],
    )
    grpo = build("grpo", {"kl_coef": 0.1})
    log = math.log(1.5)
    new = torch.tensor([[-1.0 + log, -1.0], [-2.0 + log, 0.0]], dtype=torch.float64)
    out = grpo.loss(Outputs(new), grpo.prepare(inputs))
    # Row 0: A < 0 does not clip above: c (1.5 + 1) / 2.  Row 1: -1.2 c.  Mean 0.025 c.
    # k3 with d = -log 1.5: 1 / 1.5 + log 1.5 - 1, once among two tokens and once alone: 3/4 of it.
    c, k3 = 1 / (math.sqrt(2) + 1e-4), 1 / 1.5 + log - 1
    assert out.loss.item() == pytest.approx(0.025 * c + 0.1 * 0.75 * k3)
    assert out.metrics == {
        "ratio_mean": pytest.approx(4 / 3),
        "clip_fraction": pytest.approx(1 / 3),
        "advantage_std": pytest.approx(c),
        "kl_ref_mean": pytest.approx(log),
    }


@pytest.mark.parametrize("padding", [-9.0, math.inf, math.nan])
@pytest.mark.parametrize(
    ("old_logprobs", "kl_coef", "loss", "gradient"),
    [
        # A = +-.5 / (sqrt .5 + 1e-4) = +-.707007; terms / A: -1.2, -.818731, -1.2 | .8, 1.349859,
        # so (-1.072910 + 1.074929) / 2 * .707007. The clip stops tokens 1, 3 and 4; the gradient of
        # the others is -A ratio / (2 * 3) and / (2 * 2).
        ("behaviour", 0.0, 0.000714, [0, -0.096475, 0, 0, 0.238590, 0]),
        # k3 at d = -.4, .2, -.9 | .6, -.4, times .04, adds .005579; its gradient is 1 - exp d.
        ("behaviour", 0.04, 0.006293, [0.002198, -0.097951, 0.003956, -0.008221, 0.241887, 0]),
        # Terms -1.2, -.904837, -1.2 | .8, 1.221403.
        ("proximal", 0.0, -0.032137, [0, -0.106621, 0, 0, 0.215885, 0]),
    ],
)
def test_loss_and_gradient_of_three_tokens_and_two_by_hand(
    fixture_batch, padding, old_logprobs, kl_coef, loss, gradient
):
    inputs, new = fixture_batch(padding)
    if old_logprobs == "behaviour":
        inputs = replace(inputs, proximal_logprobs=None)
    grpo = build("grpo", {"old_logprobs": old_logprobs, "kl_coef": kl_coef})
    out = grpo.loss(Outputs(new.requires_grad_()), grpo.prepare(inputs))
    (found,) = torch.autograd.grad(out.loss, new)
    assert out.loss.item() == pytest.approx(loss, abs=5e-7)
    assert found.flatten().tolist() == pytest.approx(gradient, abs=5e-7)


@pytest.mark.parametrize(
    ("name", "params", "advantage", "loss", "g2", "g5"),
    [
        # Terms / A as above; the gradient of the second is ratio / 3 / 2, of the fifth / 2 / 2.
        ("grpo", {"kl_coef": 0.0}, 1.0, 0.001010, -0.136455, 0.337465),
        # A = +-.5, sums over a budget of 3, two completions.
        ("dr_grpo", {"budget_tokens": 3}, None, -0.089073, -0.068228, 0.112488),
        # Over five tokens, and the first and third count 1.28.
        ("dapo", {}, 1.0, -0.245774, -0.163746, 0.269972),
    ],
)
def test_variants_by_hand(loss_of_fixture, name, params, advantage, loss, g2, g5):
    found, gradient, _ = loss_of_fixture(name, advantage=advantage, **params)
    assert found == pytest.approx(loss, abs=5e-7)
    assert gradient == pytest.approx([0, g2, 0, 0, g5], abs=5e-7)


@pytest.mark.parametrize(("ratio_max", "slope", "share"), [(None, 1.0, 0.0), (3.0, 0.0, 0.5)])
def test_a_large_ratio_of_a_bad_token_has_no_gradient_with_a_bound(
    make_inputs, ratio_max, slope, share
):
    # -2.6 -> -.9: a ratio of 5.47, where A < 0 has no clip.
    old = [[-1.0], [-2.6]]
    inputs = make_inputs(k=2, rewards=[1.0, 0.0], mask=[[1], [1]], old=old, ref=old)
    grpo = build("grpo", {"kl_coef": 0.0, "ratio_max": ratio_max})
    batch = grpo.prepare(inputs)
    new = torch.tensor([[-1.0], [-0.9]]).double().requires_grad_()
    out = grpo.loss(Outputs(new), batch)
    (gradient,) = torch.autograd.grad(out.loss, new)
    size = -batch.targets["advantages"][1].item() / 2
    ratio = math.exp(1.7)
    assert gradient[1, 0].item() == pytest.approx(slope * size * ratio)
    assert out.loss.item() == pytest.approx(size * (min(ratio, ratio_max or ratio) - 1))
    assert out.metrics["clip_fraction"] == share


@pytest.mark.parametrize("padding", [0.0, math.nan])
def test_dual_and_two_sided_clip_are_the_same_above_the_range(random_batch, padding):
    inputs, new, _ = random_batch(seed=3, k=4, padding=padding)
    new = inputs.old_logprobs + 8 * (new - inputs.old_logprobs)
    advantages = group_normalised(inputs.scored.rewards, 4)[:, None]
    log_ratio = (new - inputs.old_logprobs).masked_fill(~inputs.mask, 0)
    ours, _ = clipped_surrogate(log_ratio, advantages, 0.2, 0.28, 1.5)
    # The dual clip bounds the objective min(r A, clip(r) A) from below, by c A, where A < 0.
    ratio = log_ratio.exp()
    objective = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages)
    dual = objective.maximum(1.5 * advantages).where(advantages < 0, objective)
    torch.testing.assert_close(ours, -dual)
    assert (ratio[advantages.expand_as(ratio) < 0] > 1.5).any()


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize(
    ("name", "params", "settings"),
    [
        ("dapo", {}, {"loss_type": "dapo", "epsilon_high": 0.28}),
        ("dr_grpo", {}, {"loss_type": "dr_grpo", "max_completion_length": 20}),
        ("grpo", {"ratio_max": 1.25, "kl_coef": 0.0}, {"delta": 1.25}),
    ],
)
def test_variants_equal_trl(random_batch, trl_grpo_loss, k, name, params, settings):
    inputs, new, _ = random_batch(seed=k, k=k)
    new = inputs.old_logprobs + 3 * (new - inputs.old_logprobs)
    algorithm = build(name, {"completions_per_prompt": k, **params})
    batch = algorithm.prepare(inputs)
    old, advantages = batch.old_logprobs, batch.targets["advantages"]
    expected = trl_grpo_loss(new, old, inputs.ref_logprobs, batch.mask, advantages, **settings)
    found = algorithm.loss(Outputs(new), batch).loss.item()
    assert found == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("k", [2, 4])
def test_loss_equals_trl(random_batch, trl_grpo_loss, k):
    inputs, new, _ = random_batch(seed=k, k=k)
    grpo = build("grpo", {"completions_per_prompt": k})
    batch = grpo.prepare(inputs)
    expected = trl_grpo_loss(
        new,
        batch.old_logprobs,
        inputs.scored.ref_logprobs,
        batch.mask,
        batch.targets["advantages"],
        beta=0.04,
    )
    assert grpo.loss(Outputs(new), batch).loss.item() == pytest.approx(expected.item(), rel=1e-12)
