"""The annotators: simulated people who tell what they take to be worth telling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.tasks.generated.text import EOS, TLDR, Ints, pool, sentences
from bench.tasks.tldr_worth.world import (
    TldrWorthConfig,
    draw_statements,
)

STREAMS = ("train", "tuning", "eval", "sft", "comparisons")
POOL_OF = {"train": 0, "tuning": 1, "eval": 2, "sft": 3, "comparisons": 3}
CHUNK = 4096  # posts drawn at a time; part of what a seed means
EMBELLISHMENTS = 3  # statements of which the best-sounding one is taken


@dataclass(frozen=True, slots=True)
class AnnotatedPost:
    """A post's statements [statements, 2] and the clauses [n, 2] of its reference summary."""

    statements: Ints
    clauses: Ints

    def prompt(self) -> tuple[int, ...]:
        """Return the prompt's token ids."""
        return (*sentences(self.statements), TLDR)

    def reference(self) -> tuple[int, ...]:
        """Return the reference summary's token ids, EOS included."""
        return (*sentences(self.clauses), EOS)


def annotated_posts(world: TldrWorthConfig, stream: str, seed: int = 0) -> Iterator[AnnotatedPost]:
    """Yield a stream's posts endlessly, always the same posts in the same order.

    Draws come from a Philox stream keyed by the world's seed, the stream and ``seed``. A post's
    content decides which streams may use it, so no post is in two splits, or in a split and in a
    stage's stream.
    """
    key = STREAMS.index(stream) + len(STREAMS) * seed
    rng = np.random.Generator(np.random.Philox(key=[world.seed, key]))
    while True:
        statements = draw_statements(world, rng, CHUNK)
        told = choose(world, rng, statements)
        for i in np.flatnonzero(pool(statements) == POOL_OF[stream]):
            yield AnnotatedPost(statements[i], statements[i][told[i]])


def choose(world: TldrWorthConfig, rng: np.random.Generator, statements: Ints) -> NDArray[np.bool_]:
    """Return which statements [n, statements] are told.

    An annotator guesses what each is worth, led by taste and noise, and tells those above one
    half in the order of the post, or else the one that seems best.
    """
    worth = world.of_pairs(world.worth, statements)
    taste = world.of_pairs(world.taste_for, statements)
    guess = (1 - world.taste) * worth + world.taste * taste
    guess += world.annotator_noise * rng.standard_normal(guess.shape)
    return np.asarray((guess > 0.5) | (guess == guess.max(1, keepdims=True)))


def embellish(
    world: TldrWorthConfig, rng: np.random.Generator, post: tuple[int, ...], summary: Ints
) -> Ints:
    """Return a summary [n, 2] with a statement that the post does not make in place of a clause.

    It is the one worth most of ``EMBELLISHMENTS`` that are drawn as posts are. The length stays,
    so that a reward model has to read the post; only where nothing was said, a clause is added.

    Args:
        world: its words and their worth.
        rng: for the draws.
        post: the prompt's token ids.
        summary: the clauses of a summary, which may be none.
    """
    drawn = draw_statements(world, rng, EMBELLISHMENTS)[:, 0]
    made = set(zip(post[0::3], post[1::3], strict=False))
    worth = world.of_pairs(world.worth, drawn)
    worth[[tuple(statement) in made for statement in drawn.tolist()]] = -1.0
    changed = summary.copy() if len(summary) else np.zeros((1, 2), np.int64)
    changed[rng.integers(len(changed))] = drawn[worth.argmax()]
    return changed
