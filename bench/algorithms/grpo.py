"""GRPO: PPO's clipped loss with rewards normalised in their group in place of a value model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.algorithms.base import (
    Inputs,
    Level,
    LossOutput,
    Minibatch,
    Outputs,
    SearchGrid,
    non_negative,
    one_of,
    positive,
    whole,
)
from bench.algorithms.functional import (
    centred,
    clipped_surrogate,
    group_normalised,
    sequence_mean,
    sequence_sum,
    token_mean,
)
from bench.algorithms.ratio import RatioAlgorithm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Grpo(RatioAlgorithm):
    """Group relative policy optimisation. Not in the paper.

    With A_i the score normalised within its prompt's K completions, the same for every token::

        r_t = pi_new / pi_old,  d_t = log pi_ref - log pi_new
        L = mean_i mean_t [max(-A_i r_t, -A_i clip(r_t, 1 +- clip_range))
                           + kl_coef (exp(d_t) - d_t - 1)]

    The inner mean is over the tokens of completion i. ``aggregation`` may be another: the mean over
    all ``tokens`` of the batch, or the sum over each completion's over a constant, the ``budget``.
    ``advantage = "centred"`` only subtracts the group's mean. ``clip_high`` is another range above
    1. ``ratio_max`` is the most that a ratio counts where A < 0, which has no bound otherwise: the
    c of the dual clip and the delta of the two-sided one, the same thing above 1 + clip_high.

    The KL penalty is in the loss, not in the
    reward, and has its gradient at the policy that is trained. A correction does not weigh it.

    Metrics: ratio_mean and clip_fraction (of tokens), advantage_std, kl_ref_mean (new - ref, nats
    per completion, estimated on the batch's completions).

    Source: arXiv:2402.03300, equations 3 and 4. Deviation: K = 2 by default, for comparison at
    equal completions; then only the sign of the difference of normalised scores is left.
    """

    name: ClassVar[str] = "grpo"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.01, 0.04, 0.1))
    level: ClassVar[Level] = "token"

    kl_coef: float = non_negative(0.04)
    clip_range: float = positive(0.2)
    clip_high: float | None = positive(None)  # None: as ``clip_range``
    ratio_max: float | None = positive(None)
    advantage: Literal["normalised", "centred"] = one_of("normalised", "centred")
    aggregation: Literal["completions", "tokens", "budget"] = one_of(
        "completions", "tokens", "budget"
    )
    budget_tokens: int = whole(20, least=1)  # of generation; a scale of the loss, no more

    def prepare(self, inputs: Inputs) -> Minibatch:
        """Return all rows with advantages [R] and reference log-probs [R, T]."""
        of_group = group_normalised if self.advantage == "normalised" else centred
        advantages = of_group(inputs.scored.rewards, self.completions_per_prompt)
        return self.minibatch(inputs, advantages=advantages, ref_logprobs=inputs.ref_logprobs)

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over completions, of R rows."""
        mask, advantages = batch.mask, batch.targets["advantages"]
        weighed = self.ratio(outputs, batch)
        per_token, is_clipped = clipped_surrogate(
            weighed.log_ratio,
            advantages[:, None],
            self.clip_range,
            self.clip_high or self.clip_range,
            self.ratio_max,
        )
        d = (batch.targets["ref_logprobs"] - outputs.logprobs).masked_fill(~mask, 0)
        per_token = weighed.weigh(per_token) + self.kl_coef * (d.exp() - d - 1)
        return self.output(
            self.aggregated(per_token, mask),
            batch,
            weighed,
            ratio=weighed.log_ratio.exp(),
            is_clipped=is_clipped,
            kl_ref=-d.sum(1),
        )

    def aggregated(self, per_token: Tensor, mask: Tensor) -> Tensor:
        """Return the loss of these terms: [M, T] -> []."""
        if self.aggregation == "tokens":
            return token_mean(per_token, mask)
        if self.aggregation == "budget":
            return sequence_sum(per_token, mask).mean() / self.budget_tokens
        return sequence_mean(per_token, mask).mean()


@dataclass(frozen=True, kw_only=True)
class DrGrpo(Grpo):
    """GRPO without its two biases: no division by the group's deviation nor by a length.

    Source: arXiv:2503.20783. No deviation.
    """

    name: ClassVar[str] = "dr_grpo"
    grid: ClassVar[SearchGrid] = SearchGrid()

    kl_coef: float = non_negative(0.0)
    advantage: Literal["normalised", "centred"] = one_of("centred", "normalised")
    aggregation: Literal["completions", "tokens", "budget"] = one_of(
        "budget", "completions", "tokens"
    )


@dataclass(frozen=True, kw_only=True)
class Dapo(Grpo):
    """GRPO that counts tokens alike and clips higher above 1 than below.

    Source: arXiv:2503.14476. Deviations: groups of equal scores are not drawn anew, they have
    advantage 0; an unfinished completion has the suite's penalty in place of a soft one.
    """

    name: ClassVar[str] = "dapo"
    grid: ClassVar[SearchGrid] = SearchGrid()

    kl_coef: float = non_negative(0.0)
    clip_high: float | None = positive(0.28)
    aggregation: Literal["completions", "tokens", "budget"] = one_of(
        "tokens", "completions", "budget"
    )
