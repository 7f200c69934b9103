"""TOPR: REINFORCE with importance weights, truncated at 1, on the worse completions only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.algorithms.base import Level, LossOutput, Minibatch, Outputs, SearchGrid
from bench.algorithms.functional import leave_one_out, sequence_sum
from bench.algorithms.ratio import RatioAlgorithm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Topr(RatioAlgorithm):
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
    level: ClassVar[Level] = "sequence"

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return each reward minus the mean of its prompt's others."""
        return leave_one_out(rewards, self.completions_per_prompt)

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over completions, of R rows."""
        mask, advantages = batch.mask, batch.targets["advantages"]
        weighed = self.ratio(outputs, batch)
        ratio = weighed.log_ratio.detach().sum(1).exp()
        weights = ratio.clamp(max=1).masked_fill(advantages >= 0, 1)
        per_row = -weights * advantages * sequence_sum(outputs.logprobs, mask)
        return self.output(
            weighed.weigh(per_row).mean(),
            batch,
            weighed,
            ratio=ratio,
            is_clipped=(advantages < 0) & (ratio > 1),
            kl_ref=batch.targets["kl_ref"],
        )
