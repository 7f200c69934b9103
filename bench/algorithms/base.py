"""What an algorithm is: a frozen dataclass of hyper-parameters with two pure functions.

The learner calls ``prepare`` once per batch (choose rows, compute advantages) and ``loss`` once per
epoch on what it prepared. Algorithms never import each other and the learner knows none by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, Protocol

from torch import Tensor

from bench.errors import UserError
from bench.types import ScoredRollouts

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


class Algorithm(Protocol):
    """The protocol of every file in this folder; see ``rloo.py`` for the shortest full example."""

    @property
    def completions_per_prompt(self) -> int:
        """K."""
        ...

    @property
    def epochs(self) -> int:
        """T: optimiser steps on the same batch."""
        ...

    @property
    def old_logprobs(self) -> OldLogprobs:
        """Which log-probs are the old ones."""
        ...

    @property
    def needs_ref_logprobs(self) -> bool:
        """Whether ``scored.ref_logprobs`` must be there."""
        ...

    @property
    def needs_values(self) -> bool:
        """Whether a value model is trained beside the policy."""
        ...

    def prepare(self, inputs: Inputs) -> Minibatch:
        """Choose rows and compute targets, without gradient."""
        ...

    def loss(self, new_logprobs: Tensor, values: Tensor | None, batch: Minibatch) -> LossOutput:
        """Return the loss of the prepared rows. ``new_logprobs`` and ``values`` are [M, T]."""
        ...


def check_params(
    algorithm: object,
    *,
    whole: Mapping[str, int],
    positive: Iterable[str] = (),
    non_negative: Iterable[str] = (),
    choices: Mapping[str, tuple[str, ...]] | None = None,
) -> None:
    """Refuse hyper-parameters out of range.

    Args:
        algorithm: the dataclass whose fields the other arguments name.
        whole: whole numbers, with the least value allowed.
        positive: finite numbers above 0.
        non_negative: finite numbers, at least 0.
        choices: words, with those allowed.

    Raises:
        UserError: names the field, its value and what is allowed.
    """

    def require(name: str, is_allowed: bool, allowed: str) -> None:
        if not is_allowed:
            raise UserError(f"{name} = {getattr(algorithm, name)!r}: must be {allowed}")

    for name, least in whole.items():
        value = getattr(algorithm, name)
        require(name, type(value) is int and value >= least, f"a whole number, at least {least}")
    for name in positive:
        value = getattr(algorithm, name)
        require(name, _is_number(value) and value > 0, "a number above 0")
    for name in non_negative:
        value = getattr(algorithm, name)
        require(name, _is_number(value) and value >= 0, "a number, at least 0")
    for name, words in (choices or {}).items():
        require(name, getattr(algorithm, name) in words, f"one of {', '.join(words)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
