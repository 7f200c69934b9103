"""GSPO: GRPO with one length-normalised ratio per completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.algorithms.base import (
    Algorithm,
    Inputs,
    LossOutput,
    Minibatch,
    OldLogprobs,
    SearchGrid,
    non_negative,
    one_of,
    positive,
)
from bench.algorithms.functional import (
    as_metrics,
    clipped_surrogate,
    group_normalised,
    sequence_mean,
    sequence_sum,
)


@dataclass(frozen=True, kw_only=True)
class Gspo(Algorithm):
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

    old_logprobs: OldLogprobs = one_of("behaviour", "proximal")  # type: ignore[misc]
    kl_coef: float = non_negative(0.05)
    clip_low: float = positive(3e-4)
    clip_high: float = positive(4e-4)

    def prepare(self, inputs: Inputs) -> Minibatch:
        """Return all rows with their advantages [R]."""
        rollouts, ref_logprobs = inputs.scored.rollouts, inputs.scored.ref_logprobs
        assert ref_logprobs is not None
        kl_ref = sequence_sum(inputs.old_logprobs - ref_logprobs, rollouts.completion_mask)
        rewards = inputs.scored.rewards - self.kl_coef * kl_ref
        return Minibatch(
            rows=torch.arange(len(rewards), device=rewards.device),
            mask=rollouts.completion_mask,
            old_logprobs=inputs.old_logprobs,
            targets={
                "advantages": group_normalised(rewards, self.completions_per_prompt),
                "kl_ref": kl_ref,
            },
        )

    def loss(self, new_logprobs: Tensor, values: Tensor | None, batch: Minibatch) -> LossOutput:
        """Return the mean over completions. ``new_logprobs`` is [R, T]."""
        del values
        advantages = batch.targets["advantages"]
        log_ratio = sequence_mean(new_logprobs - batch.old_logprobs, batch.mask)
        per_row, is_clipped = clipped_surrogate(
            log_ratio, advantages, self.clip_low, self.clip_high
        )
        metrics = as_metrics(
            ratio_mean=log_ratio.exp().mean(),
            clip_fraction=is_clipped.double().mean(),
            advantage_std=advantages.std(correction=0),
            kl_ref_mean=batch.targets["kl_ref"].mean(),
        )
        return LossOutput(per_row.mean(), metrics)
