"""What several algorithms compute alike: masked sums, groups of completions, the clipped surrogate.

Shapes: B prompts, K completions per prompt, R = B * K prompt-major rows, M trained rows, T tokens.
Padding is replaced by 0, not multiplied by 0, so it has no gradient whatever it holds.
Torch is imported where it is called, so that a configuration can be read without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.algorithms.base import Inputs, Minibatch

if TYPE_CHECKING:
    from torch import Tensor


def all_rows(inputs: Inputs, **targets: Tensor) -> Minibatch:
    """Return a minibatch of the whole batch with these targets."""
    import torch

    rows = torch.arange(len(inputs.mask), device=inputs.mask.device)
    return Minibatch(rows, inputs.mask, inputs.old_logprobs, targets)


def sequence_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Return the sum over each row's completion tokens: [M, T] -> [M]."""
    return x.masked_fill(~mask, 0).sum(1)


def sequence_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over each row's completion tokens: [M, T] -> [M]."""
    return sequence_sum(x, mask) / mask.sum(1)


def token_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over all completion tokens of all rows: [M, T] -> []."""
    return x.masked_fill(~mask, 0).sum() / mask.sum()


def last_token(mask: Tensor) -> Tensor:
    """Return which token is the last of its row's completion: [M, T] bool -> [M, T] bool."""
    import torch

    return mask & ~torch.nn.functional.pad(mask[:, 1:], (0, 1))


def whitened(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return (x - mean) / std over all completion tokens, 0 at padding, and the std: [M, T], []."""
    mean = token_mean(x, mask)
    variance = token_mean((x - mean).square(), mask)
    return ((x - mean) * (variance + 1e-8).rsqrt()).masked_fill(~mask, 0), variance.sqrt()


def leave_one_out(rewards: Tensor, completions_per_prompt: int) -> Tensor:
    """Return each reward minus the mean of its prompt's K - 1 other rewards: [R] -> [R].

    Source: Kool et al. 2019; arXiv:2402.14740, section 3.
    """
    groups = rewards.view(-1, completions_per_prompt)
    baselines = (groups.sum(1, keepdim=True) - groups) / (completions_per_prompt - 1)
    return (groups - baselines).view(-1)


def centred(rewards: Tensor, completions_per_prompt: int) -> Tensor:
    """Return each reward minus the mean of its prompt's K rewards: [R] -> [R]."""
    groups = rewards.view(-1, completions_per_prompt)
    return (groups - groups.mean(1, keepdim=True)).view(-1)


def group_normalised(rewards: Tensor, completions_per_prompt: int) -> Tensor:
    """Return (reward - mean) / (std + 1e-4) within each prompt's K completions: [R] -> [R].

    The standard deviation has Bessel's correction. At K = 2 only the sign of the difference is
    left: the advantages are +-0.707 unless the rewards (nearly) tie.

    Source: arXiv:2402.03300, section 4.1.2.
    """
    groups = rewards.view(-1, completions_per_prompt)
    centred = groups - groups.mean(1, keepdim=True)
    return (centred / (groups.std(1, keepdim=True) + 1e-4)).view(-1)


def best_and_worst(rewards: Tensor, completions_per_prompt: int) -> Tensor:
    """Return the rows of all prompts' best, then of all prompts' worst completion: [R] -> [2B].

    Of equal rewards the first is taken; if all K are equal, completion 0 is called the best and
    completion 1 the worst, as in the authors' trainer at K = 2.
    """
    import torch

    groups = rewards.view(-1, completions_per_prompt)
    best, worst = groups.argmax(1), groups.argmin(1)
    worst = torch.where(worst == best, 1, worst)
    first_rows = torch.arange(0, len(rewards), completions_per_prompt, device=rewards.device)
    return torch.cat([first_rows + best, first_rows + worst])


def random_pair(rewards: Tensor, completions_per_prompt: int) -> Tensor:
    """Return the rows of the better, then of the worse of a random pair per prompt: [R] -> [2B].

    The pair are the prompt's first two completions. All K are drawn alike and independently, so any
    two that are named before their rewards are known are a random pair. Equal rewards: as above.
    """
    groups = rewards.view(-1, completions_per_prompt)
    rows = best_and_worst(groups[:, :2].reshape(-1), 2)
    return rows // 2 * completions_per_prompt + rows % 2


def clipped_surrogate(
    log_ratio: Tensor,
    advantages: Tensor,
    clip_low: float | Tensor,
    clip_high: float | Tensor,
    ratio_max: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return max(-A r, -A clip(r, 1 - low, 1 + high)) and where the clip stops the gradient.

    Args:
        log_ratio: log r = log pi_new - log pi_old, of any shape.
        advantages: A, of the same shape.
        clip_low: how far below 1 the ratio may fall where A < 0.
        clip_high: how far above 1 the ratio may rise where A > 0.
        ratio_max: what the ratio counts at most where A < 0; above 1 + clip_high. None: no bound.

    Source: arXiv:1707.06347, equation 7. ``ratio_max`` is c of the dual clip, arXiv:1912.09729, and
    delta of the two-sided clip, arXiv:2505.07291: above 1 + clip_high the two are the same.
    """
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_low, 1 + clip_high)  # type: ignore[arg-type]
    if ratio_max is None:
        return unclipped.maximum(clipped), clipped > unclipped
    bounded = -advantages * ratio.clamp(max=ratio_max)
    return bounded.maximum(clipped), (clipped > unclipped) | (bounded < unclipped)


def within_second_moment(squares: Tensor, candidates: Tensor, budget: float) -> Tensor:
    """Return which candidates are left when the largest are dropped until the mean fits.

    Equal squares stay or go together.

    Args:
        squares: of any shape.
        candidates: which of them count, of the same shape, bool.
        budget: what the mean of those that are left is at most.

    Source: arXiv:2510.01161.
    """
    import torch

    ascending = squares[candidates].sort().values
    means = ascending.cumsum(0) / torch.arange(1, len(ascending) + 1, device=squares.device)
    too_large = ascending[means > budget]
    least = too_large.min() if len(too_large) else torch.inf
    return candidates & (squares < least)


def as_metrics(**values: Tensor) -> dict[str, float]:
    """Return scalar tensors as numbers, with one transfer from the device for all of them."""
    import torch

    numbers = torch.stack([value.detach().double() for value in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))
