"""Corrections by name: weights or masks for what lies between behaviour and proximal policy.

With ``old_logprobs = "decoupled"`` a loss has two ratios. Its own, new / proximal, says how far the
step has moved the policy, and is what a clip limits. A correction is computed from the other one,
``c_t = pi_proximal / pi_behaviour``: how stale, or how differently computed, the completions are.
It multiplies the loss term by term, so it composes with every loss that has a ratio.

- It is computed once per batch, before the first step on it, and has no gradient.
- It multiplies the policy's terms only: neither a KL penalty in the loss nor the value loss.
- Means keep their denominator: a term of weight 0 still counts, so a mask makes the step smaller.
- A correction at level ``sequence`` gives all tokens of a completion one weight. At level ``token``
  it fits only a loss with a term for each token.

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
    one_of,
    positive,
)

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


# What a configuration may hold, as a union of classes, so that a typed command line can list them.
AnyCorrection: TypeAlias = ImportanceWeight | None

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
