import math

import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs

# R = 0 and 2 (old = ref), A = -c and +c with c = 1 / (sqrt 2 + 1e-4).
BATCH = {
    "k": 2,
    "rewards": [0.0, 2.0],
    "mask": [[1, 1], [1, 0]],
    "old": [[-1.0, -1.0], [-2.0, 0.0]],
    "ref": [[-1.0, -1.0], [-2.0, 0.0]],
}
C = 1 / (math.sqrt(2) + 1e-4)


def test_loss_clips_the_length_normalised_ratio(make_inputs):
    gspo = build("gspo", {"clip_low": 0.1, "clip_high": 0.2})
    new = torch.tensor(
        [[-1.0 + 2 * math.log(0.8), -1.0], [-2.0 + math.log(1.1), 0.0]], dtype=torch.float64
    )
    out = gspo.loss(Outputs(new), gspo.prepare(make_inputs(**BATCH)))
    # s = 0.8 (half of 2 log 0.8) and 1.1: A < 0 is clipped to 0.9, A > 0 is not clipped.
    assert out.loss.item() == pytest.approx((0.9 * C - 1.1 * C) / 2)
    assert out.metrics == {
        "ratio_mean": pytest.approx(0.95),
        "clip_fraction": 0.5,
        "advantage_std": pytest.approx(C),
        "kl_ref_mean": 0.0,
    }


def test_prepare_puts_the_kl_penalty_in_the_reward(make_inputs):
    # Sequence KL 1 and -1, kl_coef 2: R = 0 - 2 = -2 and 2 + 2 = 4, std 6 / sqrt 2.
    shifted = [[-1.5, -1.5], [-1.0, 0.0]]
    batch = build("gspo", {"kl_coef": 2.0}).prepare(make_inputs(**{**BATCH, "ref": shifted}))
    a = 3 / (6 / math.sqrt(2) + 1e-4)
    assert batch.targets["advantages"].tolist() == pytest.approx([-a, a])


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("clip", [(3e-4, 4e-4), (0.05, 0.1)])
def test_loss_equals_trl(random_batch, trl_grpo_loss, k, clip):
    inputs, new, _ = random_batch(seed=k, k=k)
    low, high = clip
    gspo = build("gspo", {"completions_per_prompt": k, "clip_low": low, "clip_high": high})
    batch = gspo.prepare(inputs)
    expected = trl_grpo_loss(
        new,
        batch.old_logprobs,
        inputs.scored.ref_logprobs,
        batch.mask,
        batch.targets["advantages"],
        level="sequence",
        epsilon_low=low,
        epsilon_high=high,
    )
    assert gspo.loss(Outputs(new), batch).loss.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("params", "loss", "first", "last"),
    [
        # s = 1.648721 | .704688. The published ranges clip both; with .2 and .8 the second only.
        ({}, -0.000350, 0.0, 0.0),
        ({"clip_low": 0.2, "clip_high": 0.8}, -0.424361, -0.274787, 0.0),
        ({"clip_low": 0.8, "clip_high": 0.8}, -0.472017, -0.274787, 0.176172),
        # Both are clipped by .2 and .4, but not by sqrt(12 / 3) and sqrt(12 / 2) times that.
        ({"clip_low": 0.2, "clip_high": 0.4}, -0.3, 0.0, 0.0),
        ({"clip_low": 0.2, "clip_high": 0.4, "reference_tokens": 12},
         -0.472017, -0.274787, 0.176172),
        # 3 tokens: as they are. 2 tokens: .1837 and 1.2247 times .15.
        ({"clip_low": 0.15, "clip_high": 0.4, "reference_tokens": 3}, -0.291856, 0.0, 0.0),
    ],
)  # fmt: skip
def test_clip_ranges_by_hand(loss_of_fixture, params, loss, first, last):
    found, gradient, _ = loss_of_fixture("gspo", advantage=1.0, **params)
    assert found == pytest.approx(loss, abs=5e-7)
    assert gradient == pytest.approx([first] * 3 + [last] * 2, abs=5e-7)
