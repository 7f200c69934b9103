"""What an algorithm is: a frozen dataclass of hyper-parameters with two pure functions.

The learner calls ``prepare`` once per batch (choose rows, compute advantages) and ``loss`` once per
epoch on what it prepared. Algorithms never import each other and the learner knows none by name.
Imports no torch at run time, so that a configuration can be read without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bench.errors import UserError
from bench.types import ScoredRollouts

if TYPE_CHECKING:
    from torch import Tensor

OldLogprobs = Literal["behaviour", "proximal"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that is known of a batch before its first optimiser step. Shapes as in ``bench.types``.

    ``old_logprobs`` are those the algorithm asked for: the engine's at sampling (``behaviour``) or
    the learner's at the start of the step (``proximal``). ``values`` [R, T] are the value model's
    at the start of the step: ``values[:, t]`` is the value of the state *before* token t.
    """

    scored: ScoredRollouts
    old_logprobs: Tensor  # [R, T]
    values: Tensor | None  # [R, T]


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
class LossOutput:
    """A scalar to differentiate and detached numbers to record (names become ``steps`` metrics)."""

    loss: Tensor
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SearchGrid:
    """What the search for hyper-parameters tries at N = 1 (``python -m bench.tuning``).

    First every learning rate at the middle value of ``coefficient``, then every value of
    ``coefficient`` at the best learning rate.
    """

    coefficient: str | None = None  # a field of the algorithm; None: only the rate is searched
    values: tuple[float, ...] = ()
    learning_rates: tuple[float, ...] = (2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4)

    @property
    def middle(self) -> float | None:
        """The value of the coefficient at which learning rates are compared."""
        return self.values[len(self.values) // 2] if self.values else None


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


@dataclass(frozen=True, kw_only=True)
class Algorithm(ABC):
    """An algorithm and its hyper-parameters; see ``rloo.py`` for a short full example.

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
        for one in fields(self):
            check: Callable[[Any], str | None] | None = one.metadata.get("check")
            value = getattr(self, one.name)
            if check is not None and (allowed := check(value)) is not None:
                raise UserError(f"algorithm {self.name}: {one.name} = {value!r}: must be {allowed}")

    def identity(self) -> dict[str, Any]:
        """Return the hyper-parameters that are part of a run's identity, as plain JSON.

        These are the one that the search varies, and those that differ from their defaults. A
        hyper-parameter added later, at a default that changes nothing, leaves identities as they
        are.
        """
        values = asdict(self)
        return {
            one.name: values[one.name]
            for one in fields(self)
            if one.name == self.grid.coefficient or getattr(self, one.name) != _default(one)
        }

    @abstractmethod
    def prepare(self, inputs: Inputs) -> Minibatch:
        """Choose rows and compute targets, without gradient."""

    @abstractmethod
    def loss(self, new_logprobs: Tensor, values: Tensor | None, batch: Minibatch) -> LossOutput:
        """Return the loss of the prepared rows. ``new_logprobs`` and ``values`` are [M, T]."""


def _default(one: Any) -> Any:
    return one.default_factory() if one.default is MISSING else one.default


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
