"""GRPO: PPO's clipped loss with rewards normalised in their group in place of a value model."""

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
    non_negative,
    positive,
)
from bench.algorithms.functional import (
    clipped_surrogate,
    group_normalised,
    sequence_mean,
)
from bench.algorithms.ratio import RatioAlgorithm


@dataclass(frozen=True, kw_only=True)
class Grpo(RatioAlgorithm):
    """Group relative policy optimisation. Not in the paper.

    With A_i the score normalised within its prompt's K completions, the same for every token::

        r_t = pi_new / pi_old,  d_t = log pi_ref - log pi_new
        L = mean_i mean_t [max(-A_i r_t, -A_i clip(r_t, 1 +- clip_range))
                           + kl_coef (exp(d_t) - d_t - 1)]

    The inner mean is over the tokens of completion i. The KL penalty is in the loss, not in the
    reward, and has its gradient at the policy that is trained. A correction does not weigh it.

    Metrics: ratio_mean and clip_fraction (of tokens), advantage_std, kl_ref_mean (new - ref, nats
    per completion, estimated on the batch's completions).

    Source: arXiv:2402.03300, equations 3 and 4. Deviation: K = 2 by default, for comparison at
    equal completions; then only the sign of the difference of the scores is left.
    """

    name: ClassVar[str] = "grpo"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.01, 0.04, 0.1))
    level: ClassVar[Level] = "token"

    kl_coef: float = non_negative(0.04)
    clip_range: float = positive(0.2)

    def prepare(self, inputs: Inputs) -> Minibatch:
        """Return all rows with advantages [R] and reference log-probs [R, T]."""
        advantages = group_normalised(inputs.scored.rewards, self.completions_per_prompt)
        return self.minibatch(inputs, advantages=advantages, ref_logprobs=inputs.ref_logprobs)

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over completions, of R rows."""
        mask, advantages = batch.mask, batch.targets["advantages"]
        weighed = self.ratio(outputs, batch)
        per_token, is_clipped = clipped_surrogate(
            weighed.log_ratio, advantages[:, None], self.clip_range, self.clip_range
        )
        d = (batch.targets["ref_logprobs"] - outputs.logprobs).masked_fill(~mask, 0)
        per_token = weighed.weigh(per_token) + self.kl_coef * (d.exp() - d - 1)
        return self.output(
            sequence_mean(per_token, mask).mean(),
            batch,
            weighed,
            ratio=weighed.log_ratio.exp(),
            is_clipped=is_clipped,
            kl_ref=-d.sum(1),
        )
