"""GSPO: GRPO with one length-normalised ratio per completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.algorithms.base import (
    Inputs,
    Level,
    LossOutput,
    Minibatch,
    Outputs,
    SearchGrid,
    positive,
)
from bench.algorithms.functional import clipped_surrogate, group_normalised, sequence_mean
from bench.algorithms.ratio import RatioAlgorithm


@dataclass(frozen=True, kw_only=True)
class Gspo(RatioAlgorithm):
    """Group sequence policy optimisation. Not in the paper.

    With |y| the completion's length in tokens and A_i normalised within the prompt's K::

        R_i = score_i - kl_coef * sum_t (log pi_old - log pi_ref)
        s_i = exp(1 / |y_i| * sum_t (log pi_new - log pi_old))
        L = mean_i max(-A_i s_i, -A_i clip(s_i, 1 - clip_low, 1 + clip_high))

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

    def prepare(self, inputs: Inputs) -> Minibatch:
        """Return all rows with their advantages [R]."""
        rewards, kl_ref = self.penalised_rewards(inputs)
        advantages = group_normalised(rewards, self.completions_per_prompt)
        return self.minibatch(inputs, advantages=advantages, kl_ref=kl_ref)

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over completions, of R rows."""
        weighed = self.ratio(outputs, batch)
        log_ratio = sequence_mean(weighed.log_ratio, batch.mask)
        per_row, is_clipped = clipped_surrogate(
            log_ratio, batch.targets["advantages"], self.clip_low, self.clip_high
        )
        return self.output(
            weighed.weigh(per_row).mean(),
            batch,
            weighed,
            ratio=log_ratio.exp(),
            is_clipped=is_clipped,
            kl_ref=batch.targets["kl_ref"],
        )
