"""CISPO: REINFORCE on tokens, weighted by a truncated ratio that has no gradient."""

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
from bench.algorithms.functional import as_metrics, group_normalised, sequence_sum, token_mean


@dataclass(frozen=True, kw_only=True)
class Cispo(Algorithm):
    """Clipped importance-sampling policy optimisation. Not in the paper.

    With A_i normalised within the prompt's K completions and sg the stopped gradient::

        R_i = score_i - kl_coef * sum_t (log pi_old - log pi_ref)
        L = mean over all tokens of -sg(min(pi_new / pi_old, ratio_max)) A_i log pi_new

    Unlike PPO's, the clip limits a token's weight and never removes its gradient.

    Metrics: ratio_mean and clip_fraction (of tokens, ratio above ratio_max), advantage_std,
    kl_ref_mean (old - ref, nats per completion, estimated on the batch's completions).

    Source: arXiv:2506.13585, equations 4 and 5. It states no bound; 5 is what TRL recommends after
    arXiv:2510.13786. Deviations: the source has no KL penalty, here it is in the reward as in RLOO
    (0 removes it); K = 2 by default, where only the sign of the difference in R is left.
    """

    name: ClassVar[str] = "cispo"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.02, 0.05, 0.1))

    old_logprobs: OldLogprobs = one_of("behaviour", "proximal")  # type: ignore[misc]
    kl_coef: float = non_negative(0.05)
    ratio_max: float = positive(5.0)

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
        """Return the mean over tokens. ``new_logprobs`` is [R, T]."""
        del values
        mask, advantages = batch.mask, batch.targets["advantages"]
        log_ratio = (new_logprobs - batch.old_logprobs).masked_fill(~mask, 0)
        ratio = log_ratio.exp().detach()
        weights = ratio.clamp(max=self.ratio_max) * advantages[:, None]
        metrics = as_metrics(
            ratio_mean=token_mean(ratio, mask),
            clip_fraction=token_mean((ratio > self.ratio_max).double(), mask),
            advantage_std=advantages.std(correction=0),
            kl_ref_mean=batch.targets["kl_ref"].mean(),
        )
        return LossOutput(token_mean(-weights * new_logprobs, mask), metrics)
