"""M2PO: the ratio as it is, without the tokens that make its second moment too large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.algorithms.base import (
    Level,
    LossOutput,
    Minibatch,
    Outputs,
    SearchGrid,
    non_negative,
    one_of,
)
from bench.algorithms.functional import (
    clipped_surrogate,
    token_mean,
    within_second_moment,
)
from bench.algorithms.ratio import RatioAlgorithm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class M2po(RatioAlgorithm):
    """Second-moment trust policy optimisation. Not in the paper.

    With A_i normalised within the prompt's K completions and d_t = log pi_new - log pi_old::

        R_i = score_i - kl_coef * sum_t (log pi_old - log pi_ref)
        S = tokens with A > 0 and d > 0, or A < 0 and d < 0: those that PPO's clip could stop
        L = mean over all tokens of -M_t A_i exp(d_t)

    M_t is 0 for the tokens of S with the largest d^2, as many as it takes for the mean of d^2 over
    the rest of S to be at most ``budget``, and else 1. No ratio is clipped; masked tokens count in
    the mean. S is of the whole batch. This is the paper's ``form``, ``mask``.

    The authors' code does another thing, ``clip``: nothing is masked, and ratios are clipped as in
    PPO to exp(+-tau). tau^2 is the largest d^2 in S for which the mean of min(d^2, tau^2) over S is
    at most ``budget``, or 0. A third form, AReaL's, masks by proximal / behaviour and over all
    tokens: correction ``second_moment_mask``, with any loss on tokens.

    Metrics: ratio_mean, clip_fraction and mask_fraction (of tokens), advantage_std, kl_ref_mean
    (old - ref, nats per completion, estimated on the batch's completions).

    Source: arXiv:2510.01161. Deviations: the source has no KL penalty, here it is in the reward as
    in RLOO (0 removes it); K = 2 by default, where only the sign of the difference in R is left.
    """

    name: ClassVar[str] = "m2po"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.02, 0.05, 0.1))
    level: ClassVar[Level] = "token"

    budget: float = non_negative(0.04)  # nats^2
    form: Literal["mask", "clip"] = one_of("mask", "clip")

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over tokens, of R rows."""
        mask, advantages = batch.mask, batch.targets["advantages"][:, None]
        weighed = self.ratio(outputs, batch)
        d = weighed.log_ratio.detach()
        squares, is_in_s = d.square(), mask & (advantages * d > 0)
        if self.form == "clip":
            tau = clip_bound(squares[is_in_s], self.budget)
            per_token, is_clipped = clipped_surrogate(
                weighed.log_ratio, advantages, 1 - (-tau).exp(), tau.exp() - 1
            )
            is_masked = is_in_s.new_zeros(is_in_s.shape)
        else:
            is_masked = is_in_s & ~within_second_moment(squares, is_in_s, self.budget)
            is_clipped = is_in_s.new_zeros(is_in_s.shape)
            per_token = (-advantages * weighed.log_ratio.exp()).masked_fill(is_masked, 0)
        return self.output(
            token_mean(weighed.weigh(per_token), mask),
            batch,
            weighed,
            ratio=weighed.log_ratio.exp(),
            is_clipped=is_clipped,
            is_masked=is_masked,
            kl_ref=batch.targets["kl_ref"],
            mask_fraction=token_mean(is_masked.double(), mask),
        )


def clip_bound(squares: Tensor, budget: float) -> Tensor:
    """Return tau of the form ``clip``, for the squares of S: [N] -> []."""
    ascending = squares.sort().values
    left = len(ascending) - ascending.new_ones(len(ascending)).cumsum(0)
    fits = ascending[ascending.cumsum(0) + left * ascending <= budget * len(ascending)]
    return fits.max().sqrt() if len(fits) else squares.new_zeros(())
