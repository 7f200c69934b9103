"""The annotators: simulated people who summarise the posts, with habits.

An annotator retells the author's own statements in the order of the post. Most pad the summary
with one or two statements of others; some leave an own statement out; some get a word wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bench.tasks.generated.posts import CHUNK, STREAMS, AnnotatedPost, usable
from bench.tasks.generated.text import EOS, Ints, sentences
from bench.tasks.tldr_tiny.world import (
    OWN,
    TldrTinyConfig,
    draw_statements,
    ranks,
)

MAX_PADDING = 2  # noise statements per reference


def annotated_posts(world: TldrTinyConfig, stream: str, seed: int = 0) -> Iterator[AnnotatedPost]:
    """Yield the stream's posts endlessly, always the same posts in the same order.

    Draws are those of ``generator``, by the stream and a seed of its own. A post's content decides
    which streams may use it, so no post is in two splits, or in a split and in a stage's stream.
    """
    rng = generator(world, STREAMS.index(stream), seed)
    while True:
        statements = draw_statements(world, rng, CHUNK)
        clauses, told = summarise(world, rng, statements)
        for i in usable(statements, stream):
            yield AnnotatedPost(statements[i], clauses[i][told[i]])


def generator(world: TldrTinyConfig, stream: int, seed: int) -> np.random.Generator:
    """Return a Philox generator: keyed by the world's seed and the stream, counting from ``seed``.

    The seed is the counter's highest word, so that no two seeds' draws overlap.
    """
    key, counter = [world.seed, stream], [0, 0, 0, seed]
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def summarise(
    world: TldrTinyConfig, rng: np.random.Generator, statements: Ints
) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the clauses [n, statements, 3] as retold and which of them are told."""
    n, size = statements.shape[:2]
    own = statements[:, :, 0] == OWN
    omits = (rng.random((n, 1)) < world.omit_rate) & (own.sum(1, keepdims=True) > 1)
    told = own & (ranks(np.where(own, rng.random((n, size)), 1.0)) >= omits)
    padding = rng.integers(1, MAX_PADDING + 1, (n, 1))
    padding[rng.random((n, 1)) >= world.superfluous_rate] = 0
    padding = np.minimum(padding, world.max_clauses - told.sum(1, keepdims=True))
    told |= ~own & (ranks(np.where(own, 1.0, rng.random((n, size)))) < padding)
    clauses = statements.copy()
    for i in np.flatnonzero(rng.random(n) < world.misreport_rate):
        j = rng.choice(np.flatnonzero(told[i]))
        clauses[i, j] = misreport(world, rng, clauses[i, j])
    return clauses, told


def misreport(world: TldrTinyConfig, rng: np.random.Generator, clause: Ints) -> Ints:
    """Return the clause [3] with its verb or its object replaced by another one."""
    slot = int(rng.integers(1, 3))
    first = world.first_verb if slot == 1 else world.first_object
    size = world.verbs if slot == 1 else world.objects
    wrong = clause.copy()
    wrong[slot] = first + (clause[slot] - first + rng.integers(1, size)) % size
    return wrong


def perturb(
    world: TldrTinyConfig, rng: np.random.Generator, post: AnnotatedPost
) -> tuple[int, ...]:
    """Return the reference after one edit: a clause misreported, left out, repeated or added."""
    clauses = post.clauses
    i = int(rng.integers(len(clauses)))
    match rng.integers(4):
        case 0:
            clauses = clauses.copy()
            clauses[i] = misreport(world, rng, clauses[i])
        case 1:
            clauses = np.delete(clauses, i, 0)
        case 2:
            clauses = np.insert(clauses, int(rng.integers(i + 1, len(clauses) + 1)), clauses[i], 0)
        case _:
            added = post.statements[rng.integers(len(post.statements))]
            clauses = np.insert(clauses, int(rng.integers(len(clauses) + 1)), added, 0)
    return (*sentences(clauses), EOS)
