"""SAPO: GRPO with a soft gate in place of the clip."""

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
from bench.algorithms.functional import sequence_mean
from bench.algorithms.ratio import RatioAlgorithm


@dataclass(frozen=True, kw_only=True)
class Sapo(RatioAlgorithm):
    """Soft adaptive policy optimisation. Not in the paper.

    With A_i normalised within the prompt's K completions, r_t = pi_new / pi_old, and tau of the
    sign of A_i::

        R_i = score_i - kl_coef * sum_t (log pi_old - log pi_ref)
        f(r) = 4 / tau * sigmoid(tau (r - 1))
        L = mean_i mean_t -A_i f(r_t)

    The gate's slope is 1 at r = 1 and falls on both sides, sooner for a larger tau: a token's
    gradient fades as the policy leaves it, and never stops at once.

    Metrics: ratio_mean, clip_fraction (0), advantage_std, kl_ref_mean (old - ref, nats per
    completion, estimated on the batch's completions).

    Source: arXiv:2511.20347. Deviations: it has no KL penalty, here it is in the reward as in RLOO
    (0 removes it); K = 2 by default, where only the sign of the difference in R is left.
    """

    name: ClassVar[str] = "sapo"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.02, 0.05, 0.1))
    level: ClassVar[Level] = "token"

    tau_positive: float = positive(1.0)
    tau_negative: float = positive(1.05)

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over completions, of R rows."""
        mask, advantages = batch.mask, batch.targets["advantages"][:, None]
        weighed = self.ratio(outputs, batch)
        ratio = weighed.log_ratio.exp()
        tau = advantages.new_full(advantages.shape, self.tau_negative)
        tau = tau.masked_fill(advantages > 0, self.tau_positive)
        per_token = -advantages * 4 / tau * (tau * (ratio - 1)).sigmoid()
        return self.output(
            sequence_mean(weighed.weigh(per_token), mask).mean(),
            batch,
            weighed,
            ratio=ratio,
            is_clipped=mask.new_zeros(mask.shape),
            kl_ref=batch.targets["kl_ref"],
        )
