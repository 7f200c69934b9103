import math

import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs

# Sequence KL 1 and -1, kl_coef 0.1: R = 0.9 and 0.1, A = +0.8 and -0.8.
BATCH = {
    "k": 2,
    "rewards": [1.0, 0.0],
    "mask": [[1, 1], [1, 0]],
    "old": [[-1.0, -1.0], [-2.0, 0.0]],
    "ref": [[-1.5, -1.5], [-1.0, 0.0]],
}


@pytest.mark.parametrize(
    ("ratio_0", "ratio_1", "weight_1", "clip_fraction"),
    [
        (1.5, 0.5, 0.5, 0.0),  # the bad one fades
        (0.5, 1.5, 1.0, 0.5),  # truncated at 1; the good one counts fully even as it fades
    ],
)
def test_loss_and_gradient_by_hand(make_inputs, ratio_0, ratio_1, weight_1, clip_fraction):
    topr = build("topr", {"kl_coef": 0.1})
    first, last = math.log(ratio_0), math.log(ratio_1)
    new = torch.tensor([[-1.0 + first, -1.0], [-2.0 + last, 0.0]], dtype=torch.float64)
    new.requires_grad_()
    out = topr.loss(Outputs(new), topr.prepare(make_inputs(**BATCH)))
    expected = (-0.8 * (-2 + first) + 0.8 * weight_1 * (-2 + last)) / 2
    assert out.loss.item() == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(out.loss, new)
    assert gradient.flatten().tolist() == pytest.approx([-0.4, -0.4, 0.4 * weight_1, 0.0])
    assert out.metrics == {
        "ratio_mean": pytest.approx(1.0),
        "clip_fraction": clip_fraction,
        "advantage_std": pytest.approx(0.8),
        "kl_ref_mean": pytest.approx(0.0),
    }


def test_loss_equals_a_naive_loop(random_batch):
    k = 3
    inputs, new, _ = random_batch(seed=0, k=k)
    topr = build("topr", {"completions_per_prompt": k})
    scored, mask = inputs.scored, inputs.scored.rollouts.completion_mask
    sums = {
        name: [
            sum(row[:length]) for row, length in zip(x.tolist(), mask.sum(1).tolist(), strict=True)
        ]
        for name, x in (("new", new), ("old", inputs.old_logprobs), ("ref", scored.ref_logprobs))
    }
    rows = range(len(mask))
    regularised = [
        scored.rewards[i].item() - 0.05 * (sums["old"][i] - sums["ref"][i]) for i in rows
    ]
    total = 0.0
    for i in rows:
        group = regularised[i // k * k : i // k * k + k]
        advantage = regularised[i] - (sum(group) - regularised[i]) / (k - 1)
        weight = 1.0 if advantage >= 0 else min(math.exp(sums["new"][i] - sums["old"][i]), 1.0)
        total += -weight * advantage * sums["new"][i]
    out = topr.loss(Outputs(new), topr.prepare(inputs))
    assert out.loss.item() == pytest.approx(total / len(mask), rel=1e-12)


def test_gradient_on_policy_is_that_of_vanilla_rloo(random_batch):
    inputs, _, _ = random_batch(seed=1)
    gradients = []
    for name in ("topr", "rloo_vanilla"):
        algorithm = build(name)
        new = inputs.old_logprobs.clone().requires_grad_()
        algorithm.loss(Outputs(new), algorithm.prepare(inputs)).loss.backward()
        gradients.append(new.grad)
    torch.testing.assert_close(*gradients)
