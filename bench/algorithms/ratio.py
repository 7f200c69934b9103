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
    non_negative,
    one_of,
)
from bench.algorithms.corrections import AnyCorrection, Correction, ImportanceWeight
from bench.algorithms.functional import all_rows, as_metrics, sequence_sum, token_mean
from bench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def _is_correction(value: Any) -> str | None:
    return None if value is None or isinstance(value, Correction) else "a correction, or None"


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

    Attributes:
        level: whether the loss is a mean over terms of tokens, [M, T], or of completions, [M].
        kl_coef: the coefficient of the KL penalty against the SFT model.
        correction: see ``corrections.py``; only with ``decoupled``, where it is part of the
            identity even if it was not given.

    With a correction there are three more metrics, at its own level: weight_mean, weight_max and
    weight_cut_fraction (truncated or masked).
    """

    level: ClassVar[Level]

    old_logprobs: OldLogprobs = one_of("behaviour", "proximal", "decoupled")  # type: ignore[misc]
    kl_coef: float = non_negative(0.05)
    correction: AnyCorrection = field(default=None, metadata={"check": _is_correction})

    def __post_init__(self) -> None:
        """Refuse hyper-parameters out of range, and a correction that does not fit.

        Raises:
            UserError: says which, and what is allowed.
        """
        super().__post_init__()
        if self.old_logprobs != "decoupled":
            if self.correction is not None:
                raise UserError(
                    f"algorithm {self.name}: correction = {self.correction.name}: "
                    f"old_logprobs must be 'decoupled', not {self.old_logprobs!r}"
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

    def minibatch(self, inputs: Inputs, **targets: Tensor) -> Minibatch:
        """Return all rows with these targets and the weights of the correction, if there is one."""
        if self.correction is not None:
            assert inputs.proximal_logprobs is not None
            log_ratio = (inputs.proximal_logprobs - inputs.behaviour_logprobs).detach()
            weights, is_cut = self.correction.weights(
                log_ratio.masked_fill(~inputs.mask, 0), inputs.mask
            )
            targets |= {"weights": weights, "is_cut": is_cut}
        return all_rows(inputs, **targets)

    def corrected(self, terms: Tensor, batch: Minibatch) -> Tensor:
        """Return the terms of the loss, [M, T] or [M], times their weights."""
        if self.correction is None:
            return terms
        weights = batch.targets["weights"]
        return terms * (weights[:, None] if weights.dim() < terms.dim() else weights)

    def output(
        self,
        loss: Tensor,
        batch: Minibatch,
        *,
        ratio: Tensor,
        is_clipped: Tensor,
        kl_ref: Tensor,
        **others: Tensor,
    ) -> LossOutput:
        """Return the loss with the metrics that all losses with a ratio have.

        Args:
            loss: to differentiate, [].
            batch: with advantages.
            ratio: new / old, [M, T] or [M].
            is_clipped: where the ratio does not count in full, same shape.
            kl_ref: the KL from the SFT model of each completion in nats, [M].
            others: the algorithm's own metrics, [].
        """
        metrics = {
            "ratio_mean": _mean(ratio, batch.mask),
            "clip_fraction": _mean(is_clipped.double(), batch.mask),
            "advantage_std": batch.targets["advantages"].std(correction=0),
            "kl_ref_mean": kl_ref.mean(),
        }
        is_masked = is_clipped.new_zeros(is_clipped.shape).bool()
        if self.correction is not None:
            weights, is_cut = batch.targets["weights"], batch.targets["is_cut"]
            is_masked = weights == 0
            valid = weights[batch.mask] if weights.dim() == 2 else weights
            metrics |= {
                "weight_mean": _mean(weights, batch.mask),
                "weight_max": valid.max(),
                "weight_cut_fraction": _mean(is_cut.double(), batch.mask),
            }
        limits = Limits(batch.targets["advantages"], is_clipped, is_masked)
        return LossOutput(loss, as_metrics(**metrics | others), limits)


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    return token_mean(x, mask) if x.dim() == 2 else x.mean()
