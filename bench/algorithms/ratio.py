"""What algorithms share whose loss has a ratio of the new to the old policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from bench.algorithms.base import (
    Algorithm,
    Inputs,
    Level,
    Limits,
    LossOutput,
    Minibatch,
    OldLogprobs,
    Outputs,
    non_negative,
    one_of,
    positive,
)
from bench.algorithms.corrections import AnyCorrection, Correction, ImportanceWeight
from bench.algorithms.functional import (
    all_rows,
    as_metrics,
    group_normalised,
    sequence_mean,
    sequence_sum,
    token_mean,
)
from bench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def _is_correction(value: Any) -> str | None:
    return None if value is None or isinstance(value, Correction) else "a correction, or None"


@dataclass(frozen=True, slots=True)
class Ratio:
    """New against old, and the weights of the loss's terms, which have no gradient."""

    log_ratio: Tensor  # log new / old, 0 at padding, [M, T]
    weights: Tensor | None  # [M, T] or [M]; None: all are 1
    is_cut: Tensor | None  # bool: which of them are truncated or masked

    def weigh(self, terms: Tensor) -> Tensor:
        """Return terms of the loss, [M, T] or [M], times their weights."""
        if self.weights is None:
            return terms
        terms, weights = _aligned(terms, self.weights)
        return terms * weights


@dataclass(frozen=True, kw_only=True)
class RatioAlgorithm(Algorithm):
    """An algorithm whose loss has a ratio, with what may stand below its line.

    ``old_logprobs`` says which log-probs those are, and which the KL penalty is computed from:

    - ``behaviour``: the engine's at sampling. The ratio itself corrects for stale completions; a
      correction would count it twice.
    - ``proximal``: the learner's at the start of the step. Stale completions are not corrected for.
    - ``decoupled``: as proximal, and ``correction`` weighs the loss by proximal against behaviour.
      Without a correction it is the plain importance weight at the level of the loss: with a loss
      on tokens, decoupled PPO. For no correction at all there is ``proximal``.
    - ``interpolated``: as decoupled, with an estimate in place of the proximal log-probs, which
      saves their forward pass: ``log pi_behaviour + s / (s + 1) sg(log pi_new - log pi_behaviour)``
      for a token that is s updates old (arXiv:2512.06547). It moves with the policy, and so do the
      weights. The KL penalty is computed from the behaviour policy's.

    Attributes:
        level: whether the loss is a mean over terms of tokens, [M, T], or of completions, [M].
        kl_coef: the coefficient of the KL penalty against the SFT model.
        correction: see ``corrections.py``; only with ``decoupled`` or ``interpolated``, where it
            is part of the identity even if it was not given.
        negative_mask_nats: what has a negative advantage gets weight 0 in completions that the
            policy has left by more than this: mean_t (log pi_behaviour - log pi_new), new at each
            epoch. Means keep their denominator. None: nothing is masked. Source: arXiv:2512.02556,
            equation 9, which states no value; TRL suggests 0.5.

    With any of these weights there are three more metrics, at their own level: weight_mean,
    weight_max and weight_cut_fraction (truncated or masked).
    """

    level: ClassVar[Level]

    old_logprobs: OldLogprobs = one_of(  # type: ignore[misc]
        "behaviour", "proximal", "decoupled", "interpolated"
    )
    kl_coef: float = non_negative(0.05)
    correction: AnyCorrection = field(default=None, metadata={"check": _is_correction})
    negative_mask_nats: float | None = positive(None)

    def __post_init__(self) -> None:
        """Refuse hyper-parameters out of range, and a correction that does not fit.

        Raises:
            UserError: says which, and what is allowed.
        """
        super().__post_init__()
        if self.old_logprobs not in ("decoupled", "interpolated"):
            if self.correction is not None:
                raise UserError(
                    f"algorithm {self.name}: correction = {self.correction.name}: old_logprobs "
                    f"must be 'decoupled' or 'interpolated', not {self.old_logprobs!r}"
                )
        elif self.correction is None:
            object.__setattr__(self, "correction", ImportanceWeight(level=self.level))
        elif self.correction.level == "token" and self.level == "sequence":
            raise UserError(
                f"algorithm {self.name}: correction = {self.correction.name} of level 'token': "
                "must be 'sequence', the loss has one term for each completion"
            )

    def identity(self) -> dict[str, Any]:
        """Return the hyper-parameters as ``Algorithm`` does; a correction with its name."""
        found = super().identity()
        if self.correction is not None:
            found["correction"] = self.correction.identity()
        return found

    def penalised_rewards(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return score - kl_coef * kl_ref and kl_ref, sum_t (log pi_old - log pi_ref): [R], [R]."""
        kl_ref = sequence_sum(inputs.old_logprobs - inputs.ref_logprobs, inputs.mask)
        return inputs.scored.rewards - self.kl_coef * kl_ref, kl_ref

    def advantages(self, rewards: Tensor) -> Tensor:
        """Return the advantages [R] of rewards [R]: those normalised within each prompt."""
        return group_normalised(rewards, self.completions_per_prompt)

    def prepare(self, inputs: Inputs) -> Minibatch:
        """Return all rows with the advantages [R] of their rewards less the KL penalty."""
        rewards, kl_ref = self.penalised_rewards(inputs)
        return self.minibatch(inputs, advantages=self.advantages(rewards), kl_ref=kl_ref)

    def minibatch(self, inputs: Inputs, **targets: Tensor) -> Minibatch:
        """Return all rows with these targets and those that ``ratio`` needs."""
        targets["behaviour_logprobs"] = inputs.behaviour_logprobs
        if self.old_logprobs == "interpolated":
            targets["moved_share"] = inputs.staleness / (inputs.staleness + 1)
        return all_rows(inputs, **targets)

    def ratio(self, outputs: Outputs, batch: Minibatch) -> Ratio:
        """Return the ratio of what ``minibatch`` prepared, with ``advantages`` of [M] or [M, T]."""
        mask, new = batch.mask, outputs.logprobs.detach()
        old, behaviour = batch.old_logprobs.detach(), batch.targets["behaviour_logprobs"]
        if self.old_logprobs == "interpolated":
            old = behaviour + batch.targets["moved_share"] * (new - behaviour)
        log_ratio = (outputs.logprobs - old).masked_fill(~mask, 0)
        weights = is_cut = None
        if self.correction is not None:
            weights, is_cut = self.correction.weights((old - behaviour).masked_fill(~mask, 0), mask)
        if self.negative_mask_nats is not None:
            is_left = sequence_mean(behaviour - new, mask) > self.negative_mask_nats
            advantages, is_left = _aligned(batch.targets["advantages"], is_left)
            is_masked = (advantages < 0) & is_left
            if weights is None or is_cut is None:
                weights, is_cut = (~is_masked).to(new.dtype), is_masked
            else:
                weights, is_masked = _aligned(weights, is_masked)
                is_cut = _aligned(is_cut, is_masked)[0] | is_masked
                weights = weights.masked_fill(is_masked, 0)
        return Ratio(log_ratio, weights, is_cut)

    def output(
        self,
        loss: Tensor,
        batch: Minibatch,
        weighed: Ratio,
        *,
        ratio: Tensor,
        is_clipped: Tensor,
        kl_ref: Tensor,
        is_masked: Tensor | None = None,
        **others: Tensor,
    ) -> LossOutput:
        """Return the loss with the metrics that all losses with a ratio have.

        Args:
            loss: to differentiate, [].
            batch: with advantages.
            weighed: with the weights of the loss.
            ratio: new / old, [M, T] or [M].
            is_clipped: where the ratio does not count in full, same shape.
            kl_ref: the KL from the SFT model of each completion in nats, [M].
            is_masked: what the loss itself leaves out, same shape.
            others: the algorithm's own metrics, [].
        """
        advantages, weights = batch.targets["advantages"], weighed.weights
        metrics = {
            "ratio_mean": _mean(ratio, batch.mask),
            "clip_fraction": _mean(is_clipped.double(), batch.mask),
            "advantage_std": advantages.std(correction=0),
            "kl_ref_mean": kl_ref.mean(),
        }
        is_masked = is_clipped.new_zeros(1).bool() if is_masked is None else is_masked
        if weights is not None and weighed.is_cut is not None:
            valid = weights[batch.mask] if weights.dim() == 2 else weights
            metrics |= {
                "weight_mean": _mean(weights, batch.mask),
                "weight_max": valid.max(),
                "weight_cut_fraction": _mean(weighed.is_cut.double(), batch.mask),
            }
            is_masked, without = _aligned(is_masked, weights == 0)
            is_masked = is_masked | without
        limits = Limits(advantages, is_clipped, is_masked)
        return LossOutput(loss, as_metrics(**metrics | others), limits)


def _aligned(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Give [M] beside [M, T] a second dimension, so that the two can be combined."""
    if x.dim() < y.dim():
        return x[:, None], y
    return (x, y[:, None]) if y.dim() < x.dim() else (x, y)


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    return token_mean(x, mask) if x.dim() == 2 else x.mean()
