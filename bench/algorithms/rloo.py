"""RLOO: REINFORCE with a leave-one-out baseline, clipped ("proximal") or vanilla."""

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
from bench.algorithms.functional import as_metrics, clipped_surrogate, leave_one_out, sequence_sum


@dataclass(frozen=True, kw_only=True)
class Rloo(Algorithm):
    """REINFORCE leave-one-out on whole completions.

    With R_i the KL-regularised reward of completion i and all sums over its tokens up to EOS::

        R_i = score_i - kl_coef * sum_t (log pi_old - log pi_ref)
        A_i = R_i - mean of the other K - 1 rewards of the prompt
        rho_i = exp(sum_t log pi_new - sum_t log pi_old)
        L = mean_i max(-A_i rho_i, -A_i clip(rho_i, 1 +- clip_range))

    Without a clip range (``rloo_vanilla``) there is no ratio: ``L = mean_i -A_i sum_t log pi_new``,
    and the old log-probs enter through the KL penalty only.

    Metrics: ratio_mean, clip_fraction (of completions), advantage_std, kl_ref_mean (old - ref,
    nats per completion, estimated on the batch's completions).

    Source: arXiv:2402.14740; the clipped form is the one the paper runs, arXiv:2410.18252,
    section 3.3. No deviation from the authors' code.
    """

    name: ClassVar[str] = "rloo"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.02, 0.05, 0.1))

    old_logprobs: OldLogprobs = one_of("behaviour", "proximal")  # type: ignore[misc]
    kl_coef: float = non_negative(0.05)
    clip_range: float | None = positive(0.2)

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
        log_ratio = sequence_sum(new_logprobs - batch.old_logprobs, batch.mask)
        if self.clip_range is None:
            per_row = -advantages * sequence_sum(new_logprobs, batch.mask)
            is_clipped = torch.zeros_like(batch.rows)
        else:
            per_row, is_clipped = clipped_surrogate(
                log_ratio, advantages, self.clip_range, self.clip_range
            )
        metrics = as_metrics(
            ratio_mean=log_ratio.exp().mean(),
            clip_fraction=is_clipped.double().mean(),
            advantage_std=advantages.std(correction=0),
            kl_ref_mean=batch.targets["kl_ref"].mean(),
        )
        return LossOutput(per_row.mean(), metrics)


@dataclass(frozen=True, kw_only=True)
class RlooVanilla(Rloo):
    """RLOO without a ratio."""

    name: ClassVar[str] = "rloo_vanilla"

    clip_range: float | None = positive(None)
