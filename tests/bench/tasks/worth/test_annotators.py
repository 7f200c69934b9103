"""The annotators' references and the embellished summaries."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from bench.tasks.generated.posts import AnnotatedPost
from bench.tasks.generated.text import TLDR, Ints
from bench.tasks.tldr_worth.task import TldrWorth
from bench.tasks.tldr_worth.world import TldrWorthConfig
from bench.tasks.worth.annotators import annotated, embellish
from bench.tasks.worth.world import draw_statements

WORLD = TldrWorthConfig()


def choose(world: TldrWorthConfig, rng: np.random.Generator, statements: Ints) -> NDArray[np.bool_]:
    told, instructions = TldrWorth(world).annotate(rng, statements)
    assert instructions == [()] * len(statements)
    return told


def annotated_posts(world: TldrWorthConfig, stream: str, seed: int = 0) -> Iterator[AnnotatedPost]:
    return annotated(world, stream, seed, TldrWorth(world).annotate)


def rng() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=7))


def test_without_taste_and_noise_what_is_worth_more_than_half_is_told_or_the_best() -> None:
    careful = replace(WORLD, taste=0.0, annotator_noise=0.0)
    statements = draw_statements(careful, rng(), 500)
    worth = careful.of_pairs(careful.worth, statements)
    expected = worth > 0.5
    for row in np.flatnonzero(~expected.any(1)):
        expected[row, worth[row].argmax()] = True
    np.testing.assert_array_equal(choose(careful, rng(), statements), expected)


def test_with_taste_alone_worth_is_of_no_account() -> None:
    led = replace(WORLD, taste=1.0, annotator_noise=0.0)
    statements = draw_statements(led, rng(), 500)
    taste = led.of_pairs(led.taste_for, statements)
    told = choose(led, rng(), statements)
    np.testing.assert_array_equal(told[(taste > 0.5).any(1)], (taste > 0.5)[(taste > 0.5).any(1)])


def test_noise_tells_by_the_normal_distribution() -> None:
    world = replace(WORLD, statements=8, taste=0.0, annotator_noise=0.2)
    statements = draw_statements(world, rng(), 20_000)
    worth = world.of_pairs(world.worth, statements)
    told = choose(world, rng(), statements)
    near = np.abs(worth - 0.6) < 0.01
    # P(0.6 + 0.2 z > 0.5) = Phi(0.5) = .691; with eight statements the best rule hardly counts.
    # About 3,500 statements: standard error .008.
    assert told[near].mean() == pytest.approx(norm.cdf(0.5), abs=0.03)


def test_a_reference_tells_statements_of_the_post_in_their_order() -> None:
    for post in islice(annotated_posts(WORLD, "train"), 200):
        statements = [tuple(s) for s in post.statements.tolist()]
        told = [tuple(c) for c in post.clauses.tolist()]
        assert 1 <= len(told) <= 5
        assert told == [s for s in statements if s in told]
        assert post.prompt()[-1] == TLDR
        assert post.reference()[-1] == 1


def test_streams_are_repeatable_and_a_seed_has_its_own() -> None:
    def first(stream: str, seed: int = 0) -> list[tuple[int, ...]]:
        return [post.prompt() for post in islice(annotated_posts(WORLD, stream, seed), 50)]

    assert first("comparisons") == first("comparisons")
    assert len({*first("comparisons"), *first("comparisons", 1), *first("sft")}) == 150


def test_an_embellished_summary_has_one_clause_that_the_post_does_not_make() -> None:
    generator = rng()
    for post in islice(annotated_posts(WORLD, "train"), 300):
        changed = embellish(WORLD, generator, post.prompt(), post.clauses)
        made = {tuple(s) for s in post.statements.tolist()}
        invented = [c for c in map(tuple, changed.tolist()) if c not in made]
        assert len(changed) == len(post.clauses)
        assert len(invented) == 1
        assert (changed != post.clauses).any(1).sum() == 1


def test_where_nothing_was_said_a_clause_is_added() -> None:
    post = next(iter(annotated_posts(WORLD, "train")))
    assert embellish(WORLD, rng(), post.prompt(), np.empty((0, 2), np.int64)).shape == (1, 2)


def test_the_invented_statement_is_the_best_of_three() -> None:
    generator = rng()
    worth = [
        float(WORLD.of_pairs(WORLD.worth, embellish(WORLD, generator, (TLDR,), clauses))[0])
        for clauses in [np.array([[4, 36]])] * 3000
    ]
    drawn = WORLD.of_pairs(WORLD.worth, draw_statements(WORLD, rng(), 9000)[:, 0])
    # The best of three from the same distribution: its median is the .5 ** (1 / 3) = .794 quantile.
    assert np.median(worth) == pytest.approx(np.quantile(drawn, 0.5 ** (1 / 3)), abs=0.03)
