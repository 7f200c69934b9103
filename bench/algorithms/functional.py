"""What several algorithms compute alike: masked sums, groups of completions, the clipped surrogate.

Shapes: B prompts, K completions per prompt, R = B * K prompt-major rows, M trained rows, T tokens.
Padding is replaced by 0, not multiplied by 0, so it has no gradient whatever it holds.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sequence_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Return the sum over each row's completion tokens: [M, T] -> [M]."""
    return x.masked_fill(~mask, 0).sum(1)


def sequence_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over each row's completion tokens: [M, T] -> [M]."""
    return sequence_sum(x, mask) / mask.sum(1)


def token_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over all completion tokens of all rows: [M, T] -> []."""
    return x.masked_fill(~mask, 0).sum() / mask.sum()


def leave_one_out(rewards: Tensor, completions_per_prompt: int) -> Tensor:
    """Return each reward minus the mean of its prompt's K - 1 other rewards: [R] -> [R].

    Source: Kool et al. 2019; arXiv:2402.14740, section 3.
    """
    groups = rewards.view(-1, completions_per_prompt)
    baselines = (groups.sum(1, keepdim=True) - groups) / (completions_per_prompt - 1)
    return (groups - baselines).view(-1)


def group_normalised(rewards: Tensor, completions_per_prompt: int) -> Tensor:
    """Return (reward - mean) / (std + 1e-4) within each prompt's K completions: [R] -> [R].

    The standard deviation has Bessel's correction. At K = 2 only the sign of the difference is
    left: the advantages are +-0.707 unless the rewards (nearly) tie.

    Source: arXiv:2402.03300, section 4.1.2.
    """
    groups = rewards.view(-1, completions_per_prompt)
    centred = groups - groups.mean(1, keepdim=True)
    return (centred / (groups.std(1, keepdim=True) + 1e-4)).view(-1)


def best_and_worst(rewards: Tensor, completions_per_prompt: int) -> tuple[Tensor, Tensor]:
    """Return the rows of each prompt's best and worst completion: [R] -> [B], [B].

    Of equal rewards the first is taken; if all K are equal, completion 0 is called the best and
    completion 1 the worst, as in the authors' trainer at K = 2.
    """
    groups = rewards.view(-1, completions_per_prompt)
    best, worst = groups.argmax(1), groups.argmin(1)
    worst = torch.where(worst == best, 1, worst)
    first_rows = torch.arange(0, len(rewards), completions_per_prompt, device=rewards.device)
    return first_rows + best, first_rows + worst


def clipped_surrogate(
    log_ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Return max(-A r, -A clip(r, 1 - low, 1 + high)) and where the clip stops the gradient.

    Args:
        log_ratio: log r = log pi_new - log pi_old, of any shape.
        advantages: A, of the same shape.
        clip_low: how far below 1 the ratio may fall where A < 0.
        clip_high: how far above 1 the ratio may rise where A > 0.

    Source: arXiv:1707.06347, equation 7.
    """
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_low, 1 + clip_high)
    return torch.maximum(unclipped, clipped), clipped > unclipped


def as_metrics(**values: Tensor) -> dict[str, float]:
    """Return scalar tensors as numbers, with one transfer from the device for all of them."""
    numbers = torch.stack([value.detach().double() for value in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))
