"""What is measured of every update, whatever the loss; formulas are in docs/measurements.md.

How far the data are off-policy is measured at the start of the step, what the loss makes of them in
the last epoch. Shapes: M rows that are trained on, of at most T completion tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from bench.algorithms.base import Limits
from bench.algorithms.functional import as_metrics, token_mean

Quantities = dict[str, Tensor]  # scalars; NaN where a quantity is not defined


def ess_fraction(log_ratio: Tensor) -> Tensor:
    """Return the effective sample size of the completions' weights over their number: [M, T] -> [].

    The weights are the products of new / behaviour. Computed from logarithms, as a product may be
    beyond the largest float.

    Args:
        log_ratio: log new / behaviour, 0 at padding.
    """
    log_weights = log_ratio.double().sum(1)
    log_ess = 2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)
    return log_ess.exp() / len(log_weights)


def of_policies(new: Tensor, behaviour: Tensor, entropies: Tensor, mask: Tensor) -> Quantities:
    """Return how far the policy is from the one that sampled, its entropy, and lengths.

    Args:
        new: log-probs of the policy that is trained, [M, T].
        behaviour: those of the engine at sampling, [M, T].
        entropies: of the policy at each token, [M, T].
        mask: which tokens are completion, [M, T] bool.
    """
    log_ratio = (new - behaviour).masked_fill(~mask, 0)
    lengths = mask.sum(1)
    return {
        "ess_fraction": ess_fraction(log_ratio),
        "log_ratio_square_mean": token_mean(log_ratio.square(), mask),
        "log_ratio_max_nats": log_ratio.abs().max(),
        "kl_k1_nats": -token_mean(log_ratio, mask),
        "kl_k3_nats": token_mean(log_ratio.expm1() - log_ratio, mask),
        "entropy_nats": token_mean(entropies, mask),
        "length_mean_tokens": lengths.double().mean(),
        "length_max_tokens": lengths.max(),
    }


def of_loss(gradient: Tensor, mask: Tensor, limits: Limits | None) -> Quantities:
    """Return what a loss does with its rows.

    Args:
        gradient: of the loss with respect to the log-probs, [M, T].
        mask: which tokens are completion, [M, T] bool.
        limits: what the loss clips and masks; None: it has no such things.
    """
    raised = -gradient.clamp(max=0).sum()
    found = {"raised_fraction": raised / gradient.abs().sum()}
    if limits is None:
        return found
    advantages = _by_token(limits.advantages, mask)
    for sign, chosen in (("positive", advantages > 0), ("negative", advantages < 0)):
        for name, where in (("clip", limits.is_clipped), ("mask", limits.is_masked)):
            share = _by_token(where.double(), mask)[chosen & mask].mean()
            found[f"{name}_fraction_{sign}"] = share
    return found


def _by_token(x: Tensor, mask: Tensor) -> Tensor:
    """Give the tokens of a completion what the completion has: [M] or [M, T] -> [M, T]."""
    return (x[:, None] if x.dim() == 1 else x).expand_as(mask)


class GradientCosine:
    """The cosine of the angle between the policy's gradients of consecutive batches."""

    def __init__(self) -> None:
        """Start without a gradient."""
        self.previous: list[Tensor | None] = []

    def __call__(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return the cosine with the last call's gradients, NaN at the first: [].

        The gradients are kept until the next call, not copied: do not change them in place.
        """
        before, self.previous = self.previous, [p.grad for p in parameters]
        pairs = [
            (new.flatten(), old.flatten())
            for new, old in zip(self.previous, before, strict=False)
            if new is not None and old is not None
        ]
        if not pairs:
            return torch.full((), torch.nan, device=parameters[0].device)
        new_norm, old_norm = (get_total_norm(tensors) for tensors in zip(*pairs, strict=True))
        return torch.stack([new.dot(old) for new, old in pairs]).sum() / (new_norm * old_norm)


def as_columns(quantities: Quantities) -> dict[str, float | None]:
    """Return quantities as columns of ``steps``: None where one is not defined."""
    numbers = as_metrics(**quantities)
    return {name: None if isnan(value) else value for name, value in numbers.items()}
