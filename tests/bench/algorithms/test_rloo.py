import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.algorithms import build
from bench.algorithms.base import Outputs
from bench.algorithms.functional import leave_one_out

# Two completions of one prompt, the second of one token. Sequence KL (old - ref): 0.5 + 0.5 = 1 and
# -2 + 1 = -1. With kl_coef 0.1: R = 1 - 0.1 = 0.9 and 0 + 0.1 = 0.1, hence A = +0.8 and -0.8.
BATCH = {
    "k": 2,
    "rewards": [1.0, 0.0],
    "mask": [[1, 1], [1, 0]],
    "old": [[-1.0, -1.0], [-2.0, 0.0]],
    "ref": [[-1.5, -1.5], [-1.0, 0.0]],
}


def moved(ratio_0, ratio_1):
    """Return new log-probs whose sequence ratios are the given ones."""
    return torch.tensor(
        [[-1.0 + math.log(ratio_0), -1.0], [-2.0 + math.log(ratio_1), 0.0]], dtype=torch.float64
    )


def test_prepare_returns_the_leave_one_out_advantages_of_the_regularised_reward(make_inputs):
    batch = build("rloo", {"kl_coef": 0.1}).prepare(make_inputs(**BATCH))
    assert batch.targets["advantages"].tolist() == pytest.approx([0.8, -0.8])
    assert batch.targets["kl_ref"].tolist() == pytest.approx([1.0, -1.0])


@pytest.mark.parametrize(
    ("ratio_0", "ratio_1", "expected", "clip_fraction"),
    [
        # (max(-0.8 * 1.5, -0.8 * 1.2) + max(0.8 * 0.5, 0.8 * 0.8)) / 2 = (-0.96 + 0.64) / 2
        (1.5, 0.5, -0.16, 1.0),
        # On the other side of 1 the clip does not act: (-0.8 * 0.5 + 0.8 * 1.5) / 2
        (0.5, 1.5, 0.4, 0.0),
        # (-0.8 * 1.1 + 0.8 * 0.9) / 2: both within the clip
        (1.1, 0.9, -0.08, 0.0),
    ],
)
def test_loss_clips_the_sequence_ratio(make_inputs, ratio_0, ratio_1, expected, clip_fraction):
    rloo = build("rloo", {"kl_coef": 0.1})
    out = rloo.loss(Outputs(moved(ratio_0, ratio_1)), rloo.prepare(make_inputs(**BATCH)))
    assert out.loss.item() == pytest.approx(expected)
    assert out.metrics["clip_fraction"] == clip_fraction
    assert out.metrics["ratio_mean"] == pytest.approx((ratio_0 + ratio_1) / 2)
    assert out.metrics["advantage_std"] == pytest.approx(0.8)
    assert out.metrics["kl_ref_mean"] == pytest.approx(0.0)


def test_vanilla_loss_has_no_ratio(make_inputs):
    vanilla = build("rloo_vanilla", {"kl_coef": 0.1})
    out = vanilla.loss(Outputs(moved(1.5, 0.5)), vanilla.prepare(make_inputs(**BATCH)))
    # Sums of log-probs: -2 + log 1.5 and -2 + log 0.5.
    # (-0.8 (-2 + log 1.5) + 0.8 (-2 + log 0.5)) / 2 = 0.4 (log 0.5 - log 1.5) = -0.4 log 3
    assert out.loss.item() == pytest.approx(-0.4 * math.log(3))
    assert out.metrics["clip_fraction"] == 0.0


@pytest.mark.parametrize("k", [2, 4])
def test_loss_equals_trl(random_batch, trl_rloo_loss, k):
    inputs, new, _ = random_batch(seed=k, k=k)
    rloo = build("rloo", {"completions_per_prompt": k})
    batch = rloo.prepare(inputs)
    expected = trl_rloo_loss(
        new, batch.old_logprobs, batch.mask, batch.targets["advantages"], clip_range=0.2
    )
    assert rloo.loss(Outputs(new), batch).loss.item() == pytest.approx(expected.item(), rel=1e-12)


def test_loss_equals_a_naive_loop(random_batch):
    k = 3
    inputs, new, _ = random_batch(seed=0, k=k)
    rloo = build("rloo", {"completions_per_prompt": k})
    scored, mask = inputs.scored, inputs.scored.rollouts.completion_mask
    rows, tokens = mask.shape
    regularised, log_ratios = [], []
    for row in range(rows):
        kl = log_ratio = 0.0
        for t in range(tokens):
            if mask[row, t]:
                kl += (inputs.old_logprobs[row, t] - scored.ref_logprobs[row, t]).item()
                log_ratio += (new[row, t] - inputs.old_logprobs[row, t]).item()
        regularised.append(scored.rewards[row].item() - 0.05 * kl)
        log_ratios.append(log_ratio)
    total = 0.0
    for row in range(rows):
        first = row // k * k
        others = [regularised[j] for j in range(first, first + k) if j != row]
        advantage = regularised[row] - sum(others) / len(others)
        ratio = math.exp(log_ratios[row])
        total += max(-advantage * ratio, -advantage * min(max(ratio, 0.8), 1.2))
    out = rloo.loss(Outputs(new), rloo.prepare(inputs))
    assert out.loss.item() == pytest.approx(total / rows, rel=1e-12)


def test_on_policy_gradient_is_that_of_vanilla_reinforce(random_batch):
    inputs, _, _ = random_batch(seed=0)
    gradients = []
    for name in ("rloo", "rloo_vanilla"):
        algorithm = build(name)
        new = inputs.old_logprobs.clone().requires_grad_()
        out = algorithm.loss(Outputs(new), algorithm.prepare(inputs))
        out.loss.backward()
        assert out.metrics["ratio_mean"] == 1.0
        gradients.append(new.grad)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@given(
    st.integers(2, 6).flatmap(
        lambda k: st.tuples(
            st.just(k),
            st.lists(st.lists(st.floats(-10, 10), min_size=k, max_size=k), min_size=1, max_size=4),
        )
    )
)
def test_advantages_sum_to_zero_within_a_prompt(groups):
    k, rewards = groups
    advantages = leave_one_out(torch.tensor(rewards, dtype=torch.float64).flatten(), k)
    torch.testing.assert_close(
        advantages.view(-1, k).sum(1), torch.zeros(len(rewards), dtype=torch.float64)
    )


def test_leave_one_out_subtracts_the_mean_of_the_others():
    # 1 - (2 + 6) / 2 = -3;  2 - (1 + 6) / 2 = -1.5;  6 - (1 + 2) / 2 = 4.5
    assert leave_one_out(torch.tensor([1.0, 2.0, 6.0]), 3).tolist() == [-3.0, -1.5, 4.5]
