"""AsymRE: REINFORCE with a baseline below the mean reward, and no ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.algorithms.base import (
    Level,
    LossOutput,
    Minibatch,
    Outputs,
    SearchGrid,
    number,
)
from bench.algorithms.functional import centred, sequence_sum
from bench.algorithms.ratio import RatioAlgorithm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AsymRe(RatioAlgorithm):
    """Asymmetric REINFORCE on whole completions. Not in the paper.

    With the mean over the prompt's K completions::

        R_i = score_i - kl_coef * sum_t (log pi_old - log pi_ref)
        A_i = R_i - (mean R + baseline_shift)
        L = mean_i -A_i sum_t log pi_new

    A baseline below the mean weighs good completions more than bad ones. It is REINFORCE plus
    ``-baseline_shift mean_i -sum_t log pi_new``, a pull back to what was sampled; ``rloo_nll`` is
    the control that has just that. The shift is in units of reward.

    Metrics: ratio_mean (new / old of completions, which is not in the loss), clip_fraction (0),
    advantage_std, kl_ref_mean (old - ref, nats per completion, estimated on the batch's
    completions).

    Source: arXiv:2506.20520; its shift is for rewards of +1 and -1. Deviation: it has no KL
    penalty, here it is in the reward as in RLOO (0 removes it).
    """

    name: ClassVar[str] = "asymre"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.02, 0.05, 0.1))
    level: ClassVar[Level] = "sequence"

    baseline_shift: float = number(-0.1)

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return each reward minus its prompt's mean and the shift."""
        return centred(rewards, self.completions_per_prompt) - self.baseline_shift

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over completions, of R rows."""
        advantages, weighed = batch.targets["advantages"], self.ratio(outputs, batch)
        per_row = -advantages * sequence_sum(outputs.logprobs, batch.mask)
        return self.output(
            weighed.weigh(per_row).mean(),
            batch,
            weighed,
            ratio=weighed.log_ratio.sum(1).exp(),
            is_clipped=batch.rows.new_zeros(len(batch.rows)),
            kl_ref=batch.targets["kl_ref"],
        )
