"""The text of generated worlds: posts of statements, summaries of clauses. Imports no torch.

A post is a row of statements and then TLDR, a summary a row of clauses and then EOS. Each statement
and each clause ends with STOP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

PAD, EOS, STOP, TLDR = range(4)
SPECIAL = ("<pad>", "<eos>", ".", "tl;dr:")

POOLS = 4


def pool(statements: Ints) -> Ints:
    """Return a number below ``POOLS`` for each post that depends on its content alone."""
    hashed = np.zeros(len(statements), np.uint64)
    for column in statements.reshape(len(statements), -1).astype(np.uint64).T:
        hashed = (hashed + column + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
    return (hashed % np.uint64(POOLS)).astype(np.int64)


def sentences(clauses: Ints) -> tuple[int, ...]:
    """Return clauses [n, words] as running text, each with its full stop."""
    stops = np.full((len(clauses), 1), STOP)
    return tuple(np.concatenate([clauses, stops], axis=1).ravel().tolist())


def clauses_of(words: Sequence[int]) -> list[tuple[int, ...]]:
    """Cut running text at each full stop; words after the last one are a clause too."""
    clauses: list[tuple[int, ...]] = []
    start = 0
    for i, word in enumerate(words):
        if word == STOP:
            clauses.append(tuple(words[start:i]))
            start = i + 1
    if start < len(words):
        clauses.append(tuple(words[start:]))
    return clauses
