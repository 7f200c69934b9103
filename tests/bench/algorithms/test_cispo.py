import math

import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs

# R = 0 and 2 (old = ref), A = -c and +c with c = 1 / (sqrt 2 + 1e-4); three tokens in all.
BATCH = {
    "k": 2,
    "rewards": [0.0, 2.0],
    "mask": [[1, 1], [1, 0]],
    "old": [[-1.0, -1.0], [-2.0, 0.0]],
    "ref": [[-1.0, -1.0], [-2.0, 0.0]],
}
C = 1 / (math.sqrt(2) + 1e-4)


def test_loss_and_gradient_by_hand(make_inputs):
    cispo = build("cispo", {"ratio_max": 1.25})
    new = torch.tensor([[-1.0 + math.log(1.5), -1.0], [-2.0 + math.log(0.5), 0.0]]).double()
    new.requires_grad_()
    out = cispo.loss(Outputs(new), cispo.prepare(make_inputs(**BATCH)))
    # Weights min(ratio, 1.25): 1.25, 1 (A = -c) and 0.5 (A = c); mean of -w A log pi over 3 tokens.
    expected = C * (1.25 * (-1 + math.log(1.5)) - 1.0 - 0.5 * (-2 + math.log(0.5))) / 3
    assert out.loss.item() == pytest.approx(expected)
    # The weight has no gradient: d / d log pi = -w A / 3, also where the ratio is truncated.
    (gradient,) = torch.autograd.grad(out.loss, new)
    assert gradient.flatten().tolist() == pytest.approx([1.25 * C / 3, C / 3, -0.5 * C / 3, 0])
    assert out.metrics == {
        "ratio_mean": pytest.approx(1.0),
        "clip_fraction": pytest.approx(1 / 3),
        "advantage_std": pytest.approx(C),
        "kl_ref_mean": 0.0,
    }


def test_prepare_puts_the_kl_penalty_in_the_reward(make_inputs):
    # Sequence KL 1 and -1, kl_coef 2: R = 0 - 2 = -2 and 2 + 2 = 4, std 6 / sqrt 2.
    shifted = [[-1.5, -1.5], [-1.0, 0.0]]
    batch = build("cispo", {"kl_coef": 2.0}).prepare(make_inputs(**{**BATCH, "ref": shifted}))
    a = 3 / (6 / math.sqrt(2) + 1e-4)
    assert batch.targets["advantages"].tolist() == pytest.approx([-a, a])


@pytest.mark.parametrize("ratio_max", [1.05, 5.0])
def test_loss_and_gradient_equal_trl(random_batch, trl_grpo_loss, ratio_max):
    inputs, new, _ = random_batch(seed=0, k=4)
    cispo = build("cispo", {"completions_per_prompt": 4, "ratio_max": ratio_max})
    batch = cispo.prepare(inputs)
    new.requires_grad_()
    ours = cispo.loss(Outputs(new), batch).loss
    trl = trl_grpo_loss(
        new,
        batch.old_logprobs,
        inputs.scored.ref_logprobs,
        batch.mask,
        batch.targets["advantages"],
        loss_type="cispo",
        epsilon_high=ratio_max,
    )
    assert ours.item() == pytest.approx(trl.item(), rel=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(loss, new)[0] for loss in (ours, trl)))
