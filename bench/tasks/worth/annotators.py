"""What annotators share: their guesses of worth, and the embellishment of what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from bench.tasks.generated.posts import CHUNK, STREAMS, AnnotatedPost, usable
from bench.tasks.generated.text import Ints
from bench.tasks.worth.world import Floats, WorthWorld, draw_statements

EMBELLISHMENTS = 3  # statements of which the best-sounding one is taken

Told = NDArray[np.bool_]  # [n, statements]
Instruction = tuple[int, ...]
# From statements [n, statements, 2]: what is told, and the instruction of each post.
Annotate = Callable[[np.random.Generator, Ints], tuple[Told, list[Instruction]]]


def annotated(
    world: WorthWorld, stream: str, seed: int, annotate: Annotate
) -> Iterator[AnnotatedPost]:
    """Yield a stream's posts endlessly, always the same posts in the same order.

    Draws come from a Philox stream keyed by the world's seed, the stream and ``seed``. Which posts
    a stream may use is said by ``posts.usable``.
    """
    key = STREAMS.index(stream) + len(STREAMS) * seed
    rng = np.random.Generator(np.random.Philox(key=[world.seed, key]))
    while True:
        statements = draw_statements(world, rng, CHUNK)
        told, instructions = annotate(rng, statements)
        for i in usable(statements, stream):
            yield AnnotatedPost(statements[i], statements[i][told[i]], instructions[i])


def guess(world: WorthWorld, rng: np.random.Generator, statements: Ints) -> Floats:
    """Return what annotators take statements [n, statements, 2] to be worth.

    They are led by taste and noise.
    """
    worth = world.of_pairs(world.worth, statements)
    taste = world.of_pairs(world.taste_for, statements)
    guessed = (1 - world.taste) * worth + world.taste * taste
    return guessed + world.annotator_noise * rng.standard_normal(guessed.shape)


def worth_telling(guessed: Floats) -> Told:
    """Return which statements [n, statements] are told: those above one half, or else the best."""
    return np.asarray((guessed > 0.5) | (guessed == guessed.max(1, keepdims=True)))


def embellish(
    world: WorthWorld, rng: np.random.Generator, post: tuple[int, ...], said: Ints
) -> Ints:
    """Return what is said [n, 2] with a statement that the post does not make in place of a clause.

    It is the one worth most of ``EMBELLISHMENTS`` that are drawn as posts are. The length stays,
    so that a reward model has to read the post; only where nothing was said, a clause is added.

    Args:
        world: its words and their worth.
        rng: for the draws.
        post: the prompt's token ids, statements first.
        said: the clauses of a completion, which may be none.
    """
    drawn = draw_statements(world, rng, EMBELLISHMENTS)[:, 0]
    made = set(zip(post[0::3], post[1::3], strict=False))
    worth = world.of_pairs(world.worth, drawn)
    worth[[tuple(statement) in made for statement in drawn.tolist()]] = -1.0
    changed = said.copy() if len(said) else np.zeros((1, 2), np.int64)
    changed[rng.integers(len(changed))] = drawn[worth.argmax()]
    return changed
