"""VESPO: REINFORCE weighted by a smooth kernel of the whole completion's ratio."""

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
from bench.algorithms.functional import centred, token_mean
from bench.algorithms.ratio import RatioAlgorithm

LOG_RATIO_MAX = 20.0  # of a token and, upwards, of a completion
LOG_WEIGHT_MIN = -18.420680743952367  # log 1e-8

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Vespo(RatioAlgorithm):
    """Variational sequence-level soft policy optimisation. Not in the paper.

    With A_i = R_i minus the mean of the prompt's K completions, k and lambda of the sign of A_i,
    and sg the stopped gradient::

        R_i = score_i - kl_coef * sum_t (log pi_old - log pi_ref)
        W_i = exp(sum_t (log pi_new - log pi_old))
        phi_i = sg(W_i^k exp(lambda (1 - W_i)))
        L = mean over all tokens of -phi_i A_i log pi_new

    phi is 1 at W = 1, largest at W = k / lambda, and falls to 0 on both sides. W is not normalised
    by length. As in TRL, log W is kept within log 1e-8 and 20, and each token's within +-20.

    Metrics: ratio_mean (of completions), clip_fraction (0), phi_mean, advantage_std, kl_ref_mean
    (old - ref, nats per completion, estimated on the batch's completions).

    Source: arXiv:2602.10693, equation 20. Deviation: it has no KL penalty, here it is in the reward
    as in RLOO (0 removes it).
    """

    name: ClassVar[str] = "vespo"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.02, 0.05, 0.1))
    level: ClassVar[Level] = "token"

    k_positive: float = positive(2.0)
    lambda_positive: float = non_negative(3.0)
    k_negative: float = positive(3.0)
    lambda_negative: float = non_negative(2.0)

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return each reward minus its prompt's mean."""
        return centred(rewards, self.completions_per_prompt)

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over tokens, of R rows."""
        mask, advantages = batch.mask, batch.targets["advantages"]
        weighed = self.ratio(outputs, batch)
        log_ratio = weighed.log_ratio.detach().clamp(-LOG_RATIO_MAX, LOG_RATIO_MAX)
        log_w = log_ratio.sum(1).clamp(LOG_WEIGHT_MIN, LOG_RATIO_MAX)
        w, is_good = log_w.exp(), advantages >= 0
        good = self.k_positive * log_w + self.lambda_positive * (1 - w)
        bad = self.k_negative * log_w + self.lambda_negative * (1 - w)
        phi = good.where(is_good, bad).exp()
        per_token = -(phi * advantages)[:, None] * outputs.logprobs
        return self.output(
            token_mean(weighed.weigh(per_token), mask),
            batch,
            weighed,
            ratio=weighed.log_ratio.sum(1).exp(),
            is_clipped=mask.new_zeros(len(mask)),
            kl_ref=batch.targets["kl_ref"],
            phi_mean=phi.mean(),
        )
