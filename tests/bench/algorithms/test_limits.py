"""What losses with advantages say of their clips and masks, by the sign of the advantage."""

import math
from dataclasses import replace

import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs
from bench.learning import diagnostics


@pytest.mark.parametrize(
    ("name", "params", "clip", "raised"),
    [
        # Gradients 0, -.096488, 0 | 0, .238624: what is clipped has none.
        ("grpo", {"kl_coef": 0.0}, (2 / 3, 1 / 2), 0.096488 / (0.096488 + 0.238624)),
        # At most 4: the third token only, whose gradient stays. Gradients in proportion to
        # 1.349859, .818731, 4 | .367879, 1.349859.
        ("cispo", {"kl_coef": 0.0, "ratio_max": 4.0}, (1 / 3, 0.0), 6.168590 / 7.886328),
        # One ratio for each completion, 4.48 and .50, both beyond .8 and 1.2: no gradient at all.
        ("rloo", {"kl_coef": 0.0}, (1.0, 1.0), None),
    ],
)
def test_shares_by_the_sign_of_the_advantage_by_hand(fixture_batch, name, params, clip, raised):
    inputs, new = fixture_batch(padding=math.nan)
    inputs = replace(inputs, proximal_logprobs=None)
    algorithm = build(name, params)
    batch = algorithm.prepare(inputs)
    out = algorithm.loss(Outputs(new.requires_grad_()), batch)
    (gradient,) = torch.autograd.grad(out.loss, new)
    found = diagnostics.as_columns(diagnostics.of_loss(gradient, inputs.mask, out.limits))
    assert found["raised_fraction"] == pytest.approx(raised, abs=5e-6)
    assert (found["clip_fraction_positive"], found["clip_fraction_negative"]) == clip
    assert (found["mask_fraction_positive"], found["mask_fraction_negative"]) == (0.0, 0.0)
