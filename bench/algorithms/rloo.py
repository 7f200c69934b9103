"""RLOO: REINFORCE with a leave-one-out baseline, clipped ("proximal") or vanilla."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.algorithms.base import (
    Level,
    LossOutput,
    Minibatch,
    Outputs,
    SearchGrid,
    non_negative,
    positive,
)
from bench.algorithms.functional import clipped_surrogate, leave_one_out, sequence_sum
from bench.algorithms.ratio import RatioAlgorithm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rloo(RatioAlgorithm):
    """REINFORCE leave-one-out on whole completions.

    With R_i the KL-regularised reward of completion i and all sums over its tokens up to EOS::

        R_i = score_i - kl_coef * sum_t (log pi_old - log pi_ref)
        A_i = R_i - mean of the other K - 1 rewards of the prompt
        rho_i = exp(sum_t log pi_new - sum_t log pi_old)
        L = mean_i max(-A_i rho_i, -A_i clip(rho_i, 1 +- clip_range))

    Without a clip range (``rloo_vanilla``) there is no ratio: ``L = mean_i -A_i sum_t log pi_new``,
    and the old log-probs enter through the KL penalty only. ``nll_coef`` (``rloo_nll``) adds
    ``nll_coef mean_i -sum_t log pi_new``, maximum likelihood of all completions, good or bad.

    Metrics: ratio_mean, clip_fraction (of completions), advantage_std, kl_ref_mean (old - ref,
    nats per completion, estimated on the batch's completions).

    Source: arXiv:2402.14740; the clipped form is the one the paper runs, arXiv:2410.18252,
    section 3.3. No deviation from the authors' code.
    """

    name: ClassVar[str] = "rloo"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.02, 0.05, 0.1, 0.2))
    level: ClassVar[Level] = "sequence"

    clip_range: float | None = positive(0.2)
    nll_coef: float = non_negative(0.0)

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return each reward minus the mean of its prompt's others."""
        return leave_one_out(rewards, self.completions_per_prompt)

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over completions, of R rows."""
        mask, advantages = batch.mask, batch.targets["advantages"]
        weighed = self.ratio(outputs, batch)
        log_ratio = weighed.log_ratio.sum(1)
        if self.clip_range is None:
            per_row = -advantages * sequence_sum(outputs.logprobs, mask)
            is_clipped = batch.rows.new_zeros(len(batch.rows))
        else:
            per_row, is_clipped = clipped_surrogate(
                log_ratio, advantages, self.clip_range, self.clip_range
            )
        if self.nll_coef:
            per_row = per_row - self.nll_coef * sequence_sum(outputs.logprobs, mask)
        return self.output(
            weighed.weigh(per_row).mean(),
            batch,
            weighed,
            ratio=log_ratio.exp(),
            is_clipped=is_clipped,
            kl_ref=batch.targets["kl_ref"],
        )


@dataclass(frozen=True, kw_only=True)
class RlooVanilla(Rloo):
    """RLOO without a ratio."""

    name: ClassVar[str] = "rloo_vanilla"

    clip_range: float | None = positive(None)


@dataclass(frozen=True, kw_only=True)
class RlooNll(RlooVanilla):
    """The control of ``asymre``: vanilla RLOO and a pull back to the data.

    The two have the same gradient, but for a factor of K / (K - 1), where ``nll_coef`` is K / (K -
    1) times the other's ``-baseline_shift``.
    """

    name: ClassVar[str] = "rloo_nll"

    nll_coef: float = non_negative(0.1)
