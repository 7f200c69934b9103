import math

import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs

# One completion of two tokens and a pad; old = ref, so there is no KL penalty.
# t=1: delta = 1 + 0 - 0.25 = 0.75;         A = 0.75;                           G = 0.75 + 0.25 = 1
# t=0: delta = 0 + 0.25 - 0.5 = -0.25;      A = -0.25 + 0.95 * 0.75 = 0.4625;   G = 0.9625
# Whitened, two numbers are -1 (t=0, the smaller) and +1 (t=1).
BATCH = {
    "k": 1,
    "rewards": [1.0],
    "mask": [[1, 1, 0]],
    "old": [[-1.0, -2.0, 0.0]],
    "ref": [[-1.0, -2.0, 0.0]],
    "values": [[0.5, 0.25, 9.0]],
}


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_prepare_computes_advantages_and_returns_by_hand(make_inputs):
    batch = build("ppo").prepare(make_inputs(**BATCH))
    assert batch.targets["returns"].tolist() == [pytest.approx([0.9625, 1.0, 0.0])]
    assert batch.targets["advantages"].tolist() == [pytest.approx([-1.0, 1.0, 0.0], rel=1e-5)]
    # Half the distance of 0.4625 and 0.75.
    assert batch.targets["advantage_std"].item() == pytest.approx(0.14375)


def test_prepare_penalises_each_token_and_scores_the_last(make_inputs):
    # old - ref = 0.5, -1: rewards -0.1 * 0.5 = -0.05 and 2 + 0.1 = 2.1; with V = 0, gamma 1 and
    # lam 1 the return is the sum to come: 2.1 and 2.05.
    inputs = make_inputs(
        k=1,
        rewards=[2.0],
        mask=[[1, 1, 0]],
        old=[[-1.0, -2.0, 0.0]],
        ref=[[-1.5, -1.0, 0.0]],
        values=[[0.0, 0.0, 0.0]],
    )
    batch = build("ppo", {"kl_coef": 0.1, "lam": 1.0}).prepare(inputs)
    assert batch.targets["returns"].tolist() == [pytest.approx([2.05, 2.1, 0.0])]
    assert batch.targets["kl_ref"].tolist() == [-0.5]


def test_prepare_scores_the_last_token_of_a_completion_that_fills_the_row(make_inputs):
    inputs = make_inputs(
        k=1, rewards=[3.0], mask=[[1, 1]], old=[[0.0, 0.0]], ref=[[0.0, 0.0]], values=[[0.0, 0.0]]
    )
    batch = build("ppo", {"gamma": 0.5, "lam": 1.0}).prepare(inputs)
    # Discounted once: 0.5 * 3.
    assert batch.targets["returns"].tolist() == [[1.5, 3.0]]


def test_loss_clips_ratio_and_value_by_hand(make_inputs):
    ppo = build("ppo")
    batch = ppo.prepare(make_inputs(**BATCH))
    new = tensor([-1.0 + math.log(1.5), -2.0 + math.log(1.5), 0.0])
    out = ppo.loss(Outputs(new, tensor([0.9, 0.15, 7.0])), batch)
    # A = -1: max(1.5, 1.2) = 1.5;  A = +1: max(-1.5, -1.2) = -1.2;  mean 0.15
    assert out.metrics["policy_loss"] == pytest.approx(0.15, rel=1e-5)
    assert out.metrics["clip_fraction"] == 0.5
    assert out.metrics["ratio_mean"] == pytest.approx(1.5)
    # t=0 moved by 0.4, clipped to 0.5 + 0.2: max((0.9 - 0.9625)^2, (0.7 - 0.9625)^2) = 0.06890625
    # t=1 moved by -0.1: (0.15 - 1)^2 = 0.7225.  Half the mean: 0.1978515625
    assert out.metrics["value_loss"] == pytest.approx(0.1978515625)
    assert out.metrics["value_clip_fraction"] == 0.5
    assert out.loss.item() == pytest.approx(0.15 + 0.1 * 0.1978515625, rel=1e-5)
    # Residuals of the old values 0.4625 and 0.75, returns 0.9625 and 1: 1 - (0.2875 / 0.0375)^2
    assert out.metrics["value_explained_variance"] == pytest.approx(1 - (0.2875 / 0.0375) ** 2)


@pytest.mark.parametrize("k", [1, 2])
def test_loss_equals_a_naive_loop(random_batch, k):
    inputs, new, new_values = random_batch(seed=1, k=k)
    ppo = build("ppo", {"completions_per_prompt": k, "gamma": 0.9})
    scored, mask = inputs.scored, inputs.scored.rollouts.completion_mask
    lengths = mask.sum(1).tolist()
    advantages, returns = {}, {}
    for row, length in enumerate(lengths):
        rewards = [
            -0.05 * (inputs.old_logprobs[row, t] - scored.ref_logprobs[row, t]).item()
            for t in range(length)
        ]
        rewards[-1] += scored.rewards[row].item()
        values = [*inputs.values[row, :length].tolist(), 0.0]
        deltas = [rewards[t] + 0.9 * values[t + 1] - values[t] for t in range(length)]
        for t in range(length):
            # The definition as a sum, not the recursion.
            advantage = sum((0.9 * 0.95) ** (s - t) * deltas[s] for s in range(t, length))
            advantages[row, t], returns[row, t] = advantage, advantage + values[t]
    mean = sum(advantages.values()) / len(advantages)
    variance = sum((a - mean) ** 2 for a in advantages.values()) / len(advantages)
    policy = value = 0.0
    for (row, t), raw in advantages.items():
        a = (raw - mean) / math.sqrt(variance + 1e-8)
        ratio = math.exp(new[row, t].item() - inputs.old_logprobs[row, t].item())
        policy += max(-a * ratio, -a * min(max(ratio, 0.8), 1.2))
        v, old, g = new_values[row, t].item(), inputs.values[row, t].item(), returns[row, t]
        value += max((v - g) ** 2, (min(max(v, old - 0.2), old + 0.2) - g) ** 2)
    expected = (policy + 0.1 * 0.5 * value) / len(advantages)
    out = ppo.loss(Outputs(new, new_values), ppo.prepare(inputs))
    assert out.loss.item() == pytest.approx(expected, rel=1e-10)


def test_policy_gradient_is_that_of_reinforce_at_ratio_1(random_batch):
    inputs, _, _ = random_batch(seed=2)
    ppo = build("ppo", {"value_coef": 0.0})
    batch = ppo.prepare(inputs)
    new = inputs.old_logprobs.clone().requires_grad_()
    out = ppo.loss(Outputs(new, inputs.values), batch)
    (gradient,) = torch.autograd.grad(out.loss, new)
    # d/d log pi of -mean A log pi
    torch.testing.assert_close(gradient, -batch.targets["advantages"] / batch.mask.sum())
    assert out.metrics["ratio_mean"] == 1.0
    assert out.metrics["clip_fraction"] == 0.0


def test_advantages_are_whitened_over_the_valid_tokens(random_batch):
    inputs, _, _ = random_batch(seed=3, prompts=8)
    batch = build("ppo").prepare(inputs)
    valid = batch.targets["advantages"][batch.mask]
    assert valid.mean().item() == pytest.approx(0.0, abs=1e-12)
    assert valid.std(correction=0).item() == pytest.approx(1.0, rel=1e-6)
