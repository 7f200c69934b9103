"""TOPR: REINFORCE with importance weights, truncated at 1, on the worse completions only."""

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
)
from bench.algorithms.functional import as_metrics, leave_one_out, sequence_sum


@dataclass(frozen=True, kw_only=True)
class Topr(Algorithm):
    """Tapered off-policy REINFORCE on whole completions. Not in the paper.

    With A_i the leave-one-out advantage and sg the stopped gradient::

        R_i = score_i - kl_coef * sum_t (log pi_old - log pi_ref)
        rho_i = exp(sum_t log pi_new - sum_t log pi_old)
        w_i = 1 where A_i >= 0, else sg(min(rho_i, 1))
        L = mean_i -w_i A_i sum_t log pi_new

    Good completions are imitated as in supervised learning; a bad one loses its weight as the
    policy leaves it, so its log-prob is not pushed down without end.

    Metrics: ratio_mean, clip_fraction (of completions, A < 0 and rho > 1), advantage_std,
    kl_ref_mean (old - ref, nats per completion, estimated on the batch's completions).

    Source: arXiv:2503.14286, section 3. Deviations: the source's rewards are +1 and -1, here the
    advantages say which completions are good; it has no KL penalty, here it is in the reward as in
    RLOO (0 removes it).
    """

    name: ClassVar[str] = "topr"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.02, 0.05, 0.1))

    old_logprobs: OldLogprobs = one_of("behaviour", "proximal")  # type: ignore[misc]
    kl_coef: float = non_negative(0.05)

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
                "advantages": leave_one_out(rewards, self.completions_per_prompt),
                "kl_ref": kl_ref,
            },
        )

    def loss(self, new_logprobs: Tensor, values: Tensor | None, batch: Minibatch) -> LossOutput:
        """Return the mean over completions. ``new_logprobs`` is [R, T]."""
        del values
        advantages = batch.targets["advantages"]
        ratio = sequence_sum(new_logprobs.detach() - batch.old_logprobs, batch.mask).exp()
        weights = torch.where(advantages >= 0, 1, ratio.clamp(max=1))
        per_row = -weights * advantages * sequence_sum(new_logprobs, batch.mask)
        metrics = as_metrics(
            ratio_mean=ratio.mean(),
            clip_fraction=((advantages < 0) & (ratio > 1)).double().mean(),
            advantage_std=advantages.std(correction=0),
            kl_ref_mean=batch.targets["kl_ref"].mean(),
        )
        return LossOutput(per_row.mean(), metrics)
