"""GRPO: PPO's clipped loss with rewards normalised in their group in place of a value model."""

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
    token_mean,
)


@dataclass(frozen=True, kw_only=True)
class Grpo(Algorithm):
    """Group relative policy optimisation. Not in the paper.

    With A_i the score normalised within its prompt's K completions, the same for every token::

        r_t = pi_new / pi_old,  d_t = log pi_ref - log pi_new
        L = mean_i mean_t [max(-A_i r_t, -A_i clip(r_t, 1 +- clip_range))
                           + kl_coef (exp(d_t) - d_t - 1)]

    The inner mean is over the tokens of completion i. The KL penalty is in the loss, not in the
    reward, and has its gradient at the policy that is trained.

    Metrics: ratio_mean and clip_fraction (of tokens), advantage_std, kl_ref_mean (new - ref, nats
    per completion, estimated on the batch's completions).

    Source: arXiv:2402.03300, equations 3 and 4. Deviation: K = 2 by default, for comparison at
    equal completions; then only the sign of the difference of the scores is left.
    """

    name: ClassVar[str] = "grpo"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.01, 0.04, 0.1))

    old_logprobs: OldLogprobs = one_of("behaviour", "proximal")  # type: ignore[misc]
    kl_coef: float = non_negative(0.04)
    clip_range: float = positive(0.2)

    def prepare(self, inputs: Inputs) -> Minibatch:
        """Return all rows with advantages [R] and reference log-probs [R, T]."""
        rewards, ref_logprobs = inputs.scored.rewards, inputs.scored.ref_logprobs
        assert ref_logprobs is not None
        return Minibatch(
            rows=torch.arange(len(rewards), device=rewards.device),
            mask=inputs.scored.rollouts.completion_mask,
            old_logprobs=inputs.old_logprobs,
            targets={
                "advantages": group_normalised(rewards, self.completions_per_prompt),
                "ref_logprobs": ref_logprobs,
            },
        )

    def loss(self, new_logprobs: Tensor, values: Tensor | None, batch: Minibatch) -> LossOutput:
        """Return the mean over completions. ``new_logprobs`` is [R, T]."""
        del values
        mask, advantages = batch.mask, batch.targets["advantages"]
        log_ratio = (new_logprobs - batch.old_logprobs).masked_fill(~mask, 0)
        per_token, is_clipped = clipped_surrogate(
            log_ratio, advantages[:, None], self.clip_range, self.clip_range
        )
        d = (batch.targets["ref_logprobs"] - new_logprobs).masked_fill(~mask, 0)
        loss = sequence_mean(per_token + self.kl_coef * (d.exp() - d - 1), mask).mean()
        metrics = as_metrics(
            ratio_mean=token_mean(log_ratio.exp(), mask),
            clip_fraction=token_mean(is_clipped.double(), mask),
            advantage_std=advantages.std(correction=0),
            kl_ref_mean=-d.sum(1).mean(),
        )
        return LossOutput(loss, metrics)
