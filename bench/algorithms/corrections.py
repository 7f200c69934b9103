"""Corrections by name: weights or masks for what lies between behaviour and proximal policy.

With ``old_logprobs`` ``decoupled`` or ``interpolated`` a loss has two ratios. Its own, new /
proximal, says how far the step has moved the policy, and is what a clip limits. A correction is
computed from the other one, ``c_t = pi_proximal / pi_behaviour``: how stale, or how differently
computed, the completions are.
It multiplies the loss term by term, so it composes with every loss that has a ratio.

- It has no gradient. It is computed of the whole batch, before any micro-batch. Where the proximal
  log-probs are exact it is the same in all epochs.
- It multiplies the policy's terms only: neither a KL penalty in the loss nor the value loss.
- Means keep their denominator: a term of weight 0 still counts, so a mask makes the step smaller.
- A correction at level ``sequence`` gives all tokens of a completion one weight. At level ``token``
  it fits only a loss with a term for each token.

=========================================  =====================================================
known as                                   here
=========================================  =====================================================
none                                       ``old_logprobs = "proximal"``
decoupled PPO                              ``importance_weight``
token TIS, sequence TIS                    ``importance_weight`` with a ``cap``, by level
IcePop or token MIS, sequence MIS          ``masked_importance_weight``, by level
geometric mask, with token TIS             ``geometric_mask``, at level ``sequence``, ``token``
AReaL's M2PO                               ``second_moment_mask``
off-policy mask of negative advantages     field ``negative_mask_nats`` of a loss with a ratio
=========================================  =====================================================

Adding one means adding a class to this file, and to ``AnyCorrection``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, get_args

from bench.algorithms.base import (
    Level,
    check_fields,
    construct,
    differences,
    non_negative,
    one_of,
    positive,
)
from bench.algorithms.functional import within_second_moment

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Correction(ABC):
    """A correction and its parameters.

    Attributes:
        name: what it is called in configurations.
        level: whether a weight is of a token or of a whole completion.
    """

    name: ClassVar[str]

    level: Level = one_of("token", "sequence")

    def __post_init__(self) -> None:
        """Refuse parameters out of range.

        Raises:
            UserError: says which, and what is allowed.
        """
        check_fields(f"correction {self.name}", self)

    def identity(self) -> dict[str, Any]:
        """Return the name and the parameters that differ from their defaults, as plain JSON."""
        return {"name": self.name, **differences(self)}

    @abstractmethod
    def weights(self, log_ratio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights and, as bool, which of them are truncated or masked.

        Args:
            log_ratio: log c_t, without gradient and 0 at padding, [R, T].
            mask: which tokens are completion, [R, T] bool.

        Returns:
            Both [R, T] at level ``token``, [R] at level ``sequence``. At padding they are finite.
        """


@dataclass(frozen=True, kw_only=True)
class ImportanceWeight(Correction):
    """The importance weight of the proximal against the behaviour policy, truncated at ``cap``.

    ::

        token:     w_t = min(c_t, cap)
        sequence:  w = min(prod_t c_t, cap)

    Without a cap, at level ``token``, this is the weight of decoupled PPO. The product is the exact
    weight of a whole completion; its variance grows with the length.

    Source: arXiv:2110.00641; arXiv:2505.24298, equations 4 and 5; truncation: Yao et al. 2025,
    "Your efficient RL framework secretly brings you off-policy RL training".
    """

    name: ClassVar[str] = "importance_weight"

    cap: float | None = positive(None)

    def weights(self, log_ratio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights and which of them the cap truncates."""
        del mask  # the log-ratio is 0 there
        ratio = (log_ratio if self.level == "token" else log_ratio.sum(1)).exp()
        cap = inf if self.cap is None else self.cap
        return ratio.clamp(max=cap), ratio > cap


@dataclass(frozen=True, kw_only=True)
class MaskedImportanceWeight(Correction):
    """The importance weight where it lies within [low, high], else 0.

    ::

        token:     w_t = c_t if low <= c_t <= high else 0
        sequence:  w = prod_t c_t if low <= prod_t c_t <= high else 0

    Source: arXiv:2510.18855 (IcePop), at level ``token``; bounds of OpenRLHF and verl.
    """

    name: ClassVar[str] = "masked_importance_weight"

    low: float = non_negative(0.5)
    high: float = positive(5.0)

    def weights(self, log_ratio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights and which of them are outside."""
        del mask  # the log-ratio is 0 there
        ratio = (log_ratio if self.level == "token" else log_ratio.sum(1)).exp()
        is_outside = (ratio < self.low) | (ratio > self.high)
        return ratio.masked_fill(is_outside, 0), is_outside


@dataclass(frozen=True, kw_only=True)
class GeometricMask(Correction):
    """Leaves out completions whose geometric mean of c_t lies outside [low, high].

    ::

        sequence:  w = 1 if low <= (prod_t c_t)^(1 / |y|) <= high else 0
        token:     w_t = w min(c_t, cap)

    Source: verl, whose bounds .999 and 1.001 are for thousands of tokens: the deviation of a mean
    from 0 shrinks with the root of the length.
    """

    name: ClassVar[str] = "geometric_mask"

    level: Level = one_of("sequence", "token")
    low: float = non_negative(0.999)
    high: float = positive(1.001)
    cap: float | None = positive(None)  # of the weights at level ``token``

    def weights(self, log_ratio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights and which of them are 0 or truncated."""
        mean_ratio = (log_ratio.sum(1) / mask.sum(1)).exp()
        is_outside = (mean_ratio < self.low) | (mean_ratio > self.high)
        if self.level == "sequence":
            return (~is_outside).to(log_ratio.dtype), is_outside
        ratio, cap = log_ratio.exp(), inf if self.cap is None else self.cap
        is_outside = is_outside[:, None].expand_as(ratio)
        return ratio.clamp(max=cap).masked_fill(is_outside, 0), is_outside | (ratio > cap)


@dataclass(frozen=True, kw_only=True)
class SecondMomentMask(Correction):
    """The importance weight, without the tokens that make the second moment of log c too large.

    Tokens of the largest (log c_t)^2 in the batch are left out until the mean over the others is at
    most ``budget``.

    Source: AReaL's variant of arXiv:2510.01161; the paper's own is algorithm ``m2po``.
    """

    name: ClassVar[str] = "second_moment_mask"

    level: Level = one_of("token")
    budget: float = non_negative(0.04)

    def weights(self, log_ratio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights and which of them are 0."""
        is_outside = mask & ~within_second_moment(log_ratio.square(), mask, self.budget)
        return log_ratio.exp().masked_fill(is_outside, 0), is_outside


# What a configuration may hold, as a union of classes, so that a typed command line can list them.
AnyCorrection: TypeAlias = (
    ImportanceWeight | MaskedImportanceWeight | GeometricMask | SecondMomentMask | None
)

CORRECTIONS: dict[str, type[Correction]] = {
    cls.name: cls for cls in get_args(AnyCorrection) if cls is not NoneType
}


def build(params: Mapping[str, Any]) -> Correction:
    """Return the correction ``params["name"]`` with the other params in place of its defaults.

    Raises:
        UserError: unknown name or parameter, or a value out of range; says what is allowed.
    """
    given = {key: value for key, value in params.items() if key != "name"}
    return construct("correction", CORRECTIONS, params.get("name"), given)
