"""Posts with the summaries of their annotators, and which streams of them may use which posts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.tasks.generated.text import EOS, TLDR, Ints, pool, sentences

STREAMS = ("train", "tuning", "eval", "sft", "comparisons")
POOL_OF = {"train": 0, "tuning": 1, "eval": 2, "sft": 3, "comparisons": 3}
CHUNK = 4096  # posts drawn at a time; part of what a seed means


@dataclass(frozen=True, slots=True)
class AnnotatedPost:
    """A post and what an annotator makes of it.

    Attributes:
        statements: of the post, [statements, words] without full stops.
        clauses: of the reference, [n, words].
        instruction: what is asked about the post, after it; empty where all posts are asked the
            same.
    """

    statements: Ints
    clauses: Ints
    instruction: tuple[int, ...] = ()

    def prompt(self) -> tuple[int, ...]:
        """Return the prompt's token ids."""
        return (*sentences(self.statements), *self.instruction, TLDR)

    def reference(self) -> tuple[int, ...]:
        """Return the reference's token ids, EOS included."""
        return (*sentences(self.clauses), EOS)


def usable(statements: Ints, stream: str) -> Ints:
    """Return which posts [n, statements, words] a stream may use, by index.

    A post's content decides it, so that no post is in two splits, or in a split and in a stage's
    stream.
    """
    return np.flatnonzero(pool(statements) == POOL_OF[stream])
