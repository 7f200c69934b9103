"""CISPO: REINFORCE on tokens, weighted by a truncated ratio that has no gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.algorithms.base import (
    Level,
    LossOutput,
    Minibatch,
    Outputs,
    SearchGrid,
    positive,
)
from bench.algorithms.functional import token_mean
from bench.algorithms.ratio import RatioAlgorithm


@dataclass(frozen=True, kw_only=True)
class Cispo(RatioAlgorithm):
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
    level: ClassVar[Level] = "token"

    ratio_max: float = positive(5.0)

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over tokens, of R rows."""
        mask, advantages = batch.mask, batch.targets["advantages"]
        weighed = self.ratio(outputs, batch)
        ratio = weighed.log_ratio.exp().detach()
        weights = ratio.clamp(max=self.ratio_max) * advantages[:, None]
        per_token = -weights * outputs.logprobs
        return self.output(
            token_mean(weighed.weigh(per_token), mask),
            batch,
            weighed,
            ratio=ratio,
            is_clipped=ratio > self.ratio_max,
            kl_ref=batch.targets["kl_ref"],
        )
