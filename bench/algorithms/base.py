"""What an algorithm is: a frozen dataclass of hyper-parameters with two pure functions.

The learner calls ``prepare`` once per batch (choose rows, compute advantages) and ``loss`` once per
epoch on what it prepared. Algorithms never import each other and the learner knows none by name.
Imports no torch at run time, so that a configuration can be read without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, cast

from bench.errors import UserError
from bench.types import ScoredRollouts

if TYPE_CHECKING:
    from torch import Tensor

Named = TypeVar("Named")  # a dataclass that is known by name
OldLogprobs = Literal["behaviour", "proximal", "decoupled", "interpolated"]
Level = Literal["token", "sequence"]  # what a term of a loss, or a weight, belongs to


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that is known of a batch before its first optimiser step. Shapes as in ``bench.types``.

    ``proximal_logprobs`` are the learner's at the start of the step; None where the algorithm's
    old log-probs are not the learner's. ``values`` are the value model's at the start of the step:
    ``values[:, t]`` is the value of the state *before* token t. ``policy_version`` is the
    learner's before the step.
    """

    scored: ScoredRollouts
    proximal_logprobs: Tensor | None  # [R, T]
    values: Tensor | None  # [R, T]
    policy_version: int = 0

    @property
    def mask(self) -> Tensor:
        """Which tokens are completion, up to and including EOS: [R, T] bool."""
        return self.scored.rollouts.completion_mask

    @property
    def behaviour_logprobs(self) -> Tensor:
        """The engine's log-probs at sampling: [R, T]."""
        return self.scored.rollouts.logprobs

    @property
    def staleness(self) -> Tensor:
        """How many updates ago each token was sampled: [R, T] int64, meaningless at padding."""
        rollouts = self.scored.rollouts
        versions = rollouts.token_versions
        if versions is None:
            versions = rollouts.completion_mask.long().fill_(rollouts.policy_version)
        return self.policy_version - versions

    @property
    def old_logprobs(self) -> Tensor:
        """The denominator of the loss's ratio: [R, T]. Proximal where there are any."""
        proximal = self.proximal_logprobs
        return self.behaviour_logprobs if proximal is None else proximal

    @property
    def ref_logprobs(self) -> Tensor:
        """The SFT model's log-probs [R, T], of an algorithm that needs them."""
        assert self.scored.ref_logprobs is not None
        return self.scored.ref_logprobs


@dataclass(frozen=True, slots=True)
class Minibatch:
    """What ``loss`` gets: the rows to train on and per-row or per-token targets, all detached.

    ``rows`` [M] indexes the R rows of the batch; the learner computes log-probs for these only.
    All other tensors have M rows in the same order. Pairwise losses order rows as all chosen first,
    then all rejected (M = 2B).
    """

    rows: Tensor  # [M] int64
    mask: Tensor  # [M, T] bool
    old_logprobs: Tensor  # [M, T]
    targets: Mapping[str, Tensor]  # named by the algorithm: advantages, returns, ref_logprobs, ...


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the trained models say of the rows of a minibatch, with gradient."""

    logprobs: Tensor  # [M, T], under the policy
    values: Tensor | None = None  # [M, T], where there is a value model


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a loss with advantages does not count in full; of tokens, [M, T], or completions, [M].

    Something clipped may still have a gradient, as under CISPO. What is masked has weight 0.
    """

    advantages: Tensor
    is_clipped: Tensor  # bool
    is_masked: Tensor  # bool


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A scalar to differentiate and detached numbers to record (names become ``steps`` metrics)."""

    loss: Tensor
    metrics: Mapping[str, float]
    limits: Limits | None = None  # None: the loss has no clip and no mask


@dataclass(frozen=True, slots=True)
class SearchGrid:
    """What the search for hyper-parameters tries at N = 1 (``python -m bench.tuning``).

    First every learning rate at the middle value of ``coefficient``, then every value of
    ``coefficient`` at the best learning rate. Both ascend. Where the best is the first or the last,
    the search goes on beyond it.
    """

    coefficient: str | None = None  # a field of the algorithm; None: only the rate is searched
    values: tuple[float, ...] = ()
    learning_rates: tuple[float, ...] = (2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4)

    @property
    def middle(self) -> float | None:
        """The value of the coefficient at which learning rates are compared; of two the smaller."""
        return self.values[(len(self.values) - 1) // 2] if self.values else None


def whole(default: int, *, least: int) -> Any:
    """Return a dataclass field for a whole number, at least ``least``."""

    def check(value: Any) -> str | None:
        allowed = type(value) is int and value >= least
        return None if allowed else f"a whole number, at least {least}"

    return field(default=default, metadata={"check": check})


def positive(default: float | None) -> Any:
    """Return a dataclass field for a finite number above 0; or None, if that is the default."""

    def check(value: Any) -> str | None:
        allowed = (value is None and default is None) or (_is_number(value) and value > 0)
        return None if allowed else "a number above 0"

    return field(default=default, metadata={"check": check})


def number(default: float) -> Any:
    """Return a dataclass field for a finite number."""

    def check(value: Any) -> str | None:
        return None if _is_number(value) else "a number"

    return field(default=default, metadata={"check": check})


def non_negative(default: float) -> Any:
    """Return a dataclass field for a finite number, at least 0."""

    def check(value: Any) -> str | None:
        return None if _is_number(value) and value >= 0 else "a number, at least 0"

    return field(default=default, metadata={"check": check})


def one_of(default: str, *others: str) -> Any:
    """Return a dataclass field for one of several words."""
    words = (default, *others)

    def check(value: Any) -> str | None:
        return None if value in words else f"one of {', '.join(words)}"

    return field(default=default, metadata={"check": check})


def construct(
    kind: str, classes: Mapping[str, type[Named]], name: Any, params: Mapping[str, Any]
) -> Named:
    """Return the dataclass of this name, with ``params`` in place of its defaults.

    Args:
        kind: what it is, for the message.
        classes: by name.
        name: one of them.
        params: some of its fields.

    Raises:
        UserError: unknown name or parameter, or a value out of range; says what is allowed.
    """
    if name not in classes:
        raise UserError(f"{kind} {name!r}: allowed are {', '.join(classes)}")
    allowed = [one.name for one in fields(cast("Any", classes[name]))]
    if unknown := sorted(set(params) - set(allowed)):
        raise UserError(
            f"{kind} {name}: no parameter {', '.join(unknown)}; allowed are {', '.join(allowed)}"
        )
    return classes[name](**params)


def check_fields(owner: str, params: Any) -> None:
    """Refuse a dataclass whose fields do not pass their own checks.

    Args:
        owner: whose parameters they are, for the message.
        params: the dataclass.

    Raises:
        UserError: says which, and what is allowed.
    """
    for one in fields(params):
        check = one.metadata.get("check")
        value = getattr(params, one.name)
        if check is not None and (allowed := check(value)) is not None:
            raise UserError(f"{owner}: {one.name} = {value!r}: must be {allowed}")


def differences(params: Any, *, always: str | None = None) -> dict[str, Any]:
    """Return as plain JSON the fields of a dataclass that differ from their defaults.

    Args:
        params: the dataclass.
        always: a field to return even at its default.
    """
    values = asdict(params)
    return {
        one.name: values[one.name]
        for one in fields(params)
        if one.name == always or getattr(params, one.name) != _default(one)
    }


@dataclass(frozen=True, kw_only=True)
class Algorithm(ABC):
    """An algorithm and its hyper-parameters; see ``regression.py`` for a full example,
    and ``ratio.py`` for those whose loss has a ratio.

    Attributes:
        name: what it is called in configurations, tables and files.
        grid: what the search for its hyper-parameters tries.
        needs_ref_logprobs: whether ``scored.ref_logprobs`` must be there.
        needs_values: whether a value model is trained beside the policy.
        old_logprobs: which log-probs are the old ones; a hyper-parameter where there is a ratio.
        completions_per_prompt: K.
        epochs: T, optimiser steps on the same batch.
    """

    name: ClassVar[str]
    grid: ClassVar[SearchGrid] = SearchGrid()
    needs_ref_logprobs: ClassVar[bool] = True
    needs_values: ClassVar[bool] = False
    old_logprobs: ClassVar[OldLogprobs] = "behaviour"

    completions_per_prompt: int = whole(2, least=2)
    epochs: int = whole(1, least=1)

    def __post_init__(self) -> None:
        """Refuse hyper-parameters out of range.

        Raises:
            UserError: says which, and what is allowed.
        """
        check_fields(f"algorithm {self.name}", self)

    def identity(self) -> dict[str, Any]:
        """Return the hyper-parameters that are part of a run's identity, as plain JSON.

        These are the one that the search varies, and those that differ from their defaults. A
        hyper-parameter added later, at a default that changes nothing, leaves identities as they
        are.
        """
        return differences(self, always=self.grid.coefficient)

    @abstractmethod
    def prepare(self, inputs: Inputs) -> Minibatch:
        """Choose rows and compute targets, without gradient."""

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the loss of the prepared rows."""


def _default(one: Any) -> Any:
    return one.default_factory() if one.default is MISSING else one.default


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
