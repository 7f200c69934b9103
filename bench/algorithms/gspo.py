"""GSPO: GRPO with one length-normalised ratio per completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.algorithms.base import (
    Level,
    LossOutput,
    Minibatch,
    Outputs,
    SearchGrid,
    positive,
)
from bench.algorithms.functional import clipped_surrogate, sequence_mean
from bench.algorithms.ratio import RatioAlgorithm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Gspo(RatioAlgorithm):
    """Group sequence policy optimisation. Not in the paper.

    With |y| the completion's length in tokens and A_i normalised within the prompt's K::

        R_i = score_i - kl_coef * sum_t (log pi_old - log pi_ref)
        s_i = exp(1 / |y_i| * sum_t (log pi_new - log pi_old))
        L = mean_i max(-A_i s_i, -A_i clip(s_i, 1 - clip_low, 1 + clip_high))

    The deviation of a mean log-ratio from 0 shrinks with the root of the length. The published
    ranges are for thousands of tokens: at a few they clip nearly all that is not fresh. With
    ``reference_tokens`` they hold at that length, and are multiplied by sqrt(reference_tokens /
    |y_i|) at another (``gspo_scaled``).

    Metrics: ratio_mean and clip_fraction (of completions), advantage_std, kl_ref_mean (old - ref,
    nats per completion, estimated on the batch's completions).

    Source: arXiv:2507.18071, equations 5 to 7; clip ranges of section 5.1, meant for long
    completions. Deviations: the source leaves the KL penalty out, here it is in the reward as in
    RLOO (0 removes it); K = 2 by default, where only the sign of the difference in R is left.
    """

    name: ClassVar[str] = "gspo"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.02, 0.05, 0.1))
    level: ClassVar[Level] = "sequence"

    clip_low: float = positive(3e-4)
    clip_high: float = positive(4e-4)
    reference_tokens: float | None = positive(None)

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over completions, of R rows."""
        weighed = self.ratio(outputs, batch)
        log_ratio = sequence_mean(weighed.log_ratio, batch.mask)
        low: float | Tensor = self.clip_low
        high: float | Tensor = self.clip_high
        if self.reference_tokens is not None:
            scale = (self.reference_tokens / batch.mask.sum(1)).sqrt()
            low, high = low * scale, high * scale
        per_row, is_clipped = clipped_surrogate(log_ratio, batch.targets["advantages"], low, high)
        return self.output(
            weighed.weigh(per_row).mean(),
            batch,
            weighed,
            ratio=log_ratio.exp(),
            is_clipped=is_clipped,
            kl_ref=batch.targets["kl_ref"],
        )


@dataclass(frozen=True, kw_only=True)
class GspoScaled(Gspo):
    """GSPO whose clip ranges are scaled by length. The length they are published for is a guess."""

    name: ClassVar[str] = "gspo_scaled"

    reference_tokens: float | None = positive(4096)
