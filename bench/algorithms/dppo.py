"""DPPO: REINFORCE on tokens whose probability has not moved too far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.algorithms.base import (
    Level,
    LossOutput,
    Minibatch,
    Outputs,
    SearchGrid,
    non_negative,
    positive,
)
from bench.algorithms.functional import token_mean
from bench.algorithms.ratio import RatioAlgorithm


@dataclass(frozen=True, kw_only=True)
class Dppo(RatioAlgorithm):
    """Divergence proximal policy optimisation, by binary total variation. Not in the paper.

    With A_i normalised within the prompt's K completions and sg the stopped gradient::

        R_i = score_i - kl_coef * sum_t (log pi_old - log pi_ref)
        M_t = 1 where pi_new - pi_old <= change_high, for A > 0
              1 where pi_new - pi_old >= -change_low, for A <= 0, else 0
        L = mean over all tokens of -M_t sg(min(pi_new / pi_old, ratio_max)) A_i log pi_new
            + square_coef (log pi_new - log pi_old)^2

    What is bounded is how far the probability of the sampled token moves, not its ratio: an
    unlikely token may change by a large factor, a likely one may not. Masked tokens count in the
    mean.
    ``square_coef`` is prime-rl's, 1e-3 there; its loss then has this gradient, without a
    ``ratio_max``. A correction does not weigh that term.

    Metrics: ratio_mean, clip_fraction (ratio above ratio_max) and mask_fraction (of tokens),
    advantage_std, kl_ref_mean (old - ref, nats per completion, estimated on the batch's
    completions).

    Source: arXiv:2602.04879; as in verl. Deviations: a KL penalty in the reward as in RLOO (0
    removes it); K = 2 by default, where only the sign of the difference in R is left.
    """

    name: ClassVar[str] = "dppo"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.02, 0.05, 0.1))
    level: ClassVar[Level] = "token"

    change_low: float = positive(0.2)
    change_high: float = positive(0.2)
    ratio_max: float = positive(20.0)
    square_coef: float = non_negative(0.0)

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over tokens, of R rows."""
        mask, advantages = batch.mask, batch.targets["advantages"][:, None]
        weighed = self.ratio(outputs, batch)
        log_ratio, new = weighed.log_ratio.detach(), outputs.logprobs.detach()
        ratio, change = log_ratio.exp(), new.exp() - (new - log_ratio).exp()
        is_far = (change > self.change_high).where(advantages > 0, change < -self.change_low)
        is_masked = mask & is_far
        weights = ratio.clamp(max=self.ratio_max).masked_fill(is_masked, 0)
        per_token = weighed.weigh(-weights * advantages * outputs.logprobs)
        if self.square_coef:
            per_token = per_token + self.square_coef * weighed.log_ratio.square()
        return self.output(
            token_mean(per_token, mask),
            batch,
            weighed,
            ratio=ratio,
            is_clipped=ratio > self.ratio_max,
            is_masked=is_masked,
            kl_ref=batch.targets["kl_ref"],
            mask_fraction=token_mean(is_masked.double(), mask),
        )
