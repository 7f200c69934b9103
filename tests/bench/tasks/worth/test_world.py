"""The generated posts, and what their statements are worth."""

from dataclasses import replace

import numpy as np
import pytest

from bench.errors import UserError
from bench.tasks.generated.text import pool, sentences
from bench.tasks.tldr_worth.world import TldrWorthConfig
from bench.tasks.worth.world import OBJECTS, VERBS, draw_statements

WORLD = TldrWorthConfig()


def rng() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=7))


def test_vocabulary_has_specials_then_the_words_of_the_chosen_sizes() -> None:
    small = TldrWorthConfig(verbs=3, objects=4, statements=2)
    assert " ".join(small.vocabulary()) == "<pad> <eos> . tl;dr: lost found bought car job dog cat"
    assert (small.first_verb, small.first_object) == (4, 7)
    assert len(VERBS.split()) == 32
    assert len(OBJECTS.split()) == 54
    assert len(WORLD.vocabulary()) == len(set(WORLD.vocabulary())) == 4 + 32 + 54


def test_words_do_not_repeat_within_a_post() -> None:
    statements = draw_statements(WORLD, rng(), 1000)
    assert statements.shape == (1000, 5, 2)
    for slot, first, size in ((0, 4, 32), (1, 36, 54)):
        words = statements[:, :, slot]
        assert all(len(set(row)) == 5 for row in words.tolist())
        assert set(np.unique(words)) == set(range(first, first + size))


def test_the_first_word_of_a_post_is_drawn_by_zipfs_law() -> None:
    verbs = draw_statements(WORLD, rng(), 40_000)[:, 0, 0] - WORLD.first_verb
    share = np.arange(1, 33) ** -0.7
    expected = 40_000 * share / share.sum()
    # Counts of a multinomial: chi-square has 31 degrees of freedom, below 61.1 in 999 of 1000.
    assert ((np.bincount(verbs, minlength=32) - expected) ** 2 / expected).sum() < 61.1


def test_without_zipf_every_word_is_as_frequent() -> None:
    flat = replace(WORLD, zipf_exponent=0.0)
    verbs = draw_statements(flat, rng(), 32_000)[:, 0, 0] - flat.first_verb
    assert ((np.bincount(verbs, minlength=32) - 1000) ** 2 / 1000).sum() < 61.1


def test_worth_is_uniform_and_taste_has_nothing_to_do_with_it() -> None:
    worth, taste = WORLD.worth, WORLD.taste_for
    expected = (np.arange(32 * 54) + 0.5) / (32 * 54)
    for table in (worth, taste):
        np.testing.assert_allclose(np.sort(table.ravel()), expected)
    assert not np.allclose(worth, taste)
    np.testing.assert_array_equal(TldrWorthConfig().worth, worth)
    assert not np.allclose(replace(WORLD, seed=1).worth, worth)


@pytest.mark.parametrize(("interaction", "explained"), [(0.0, 1.0), (0.3, 0.7), (1.0, 0.0)])
def test_interaction_is_the_share_of_worth_that_words_do_not_explain(
    interaction: float, explained: float
) -> None:
    # Of normal scores, whose variance the ranks' transform keeps; rows and columns explain by
    # chance (31 + 53) / 1727 = .05 of noise. Means over 20 worlds.
    from scipy.stats import norm

    found = []
    for seed in range(20):
        scores = norm.ppf(replace(WORLD, interaction=interaction, seed=seed).worth)
        fit = scores.mean(0) + scores.mean(1, keepdims=True) - scores.mean()
        found.append(1 - (scores - fit).var() / scores.var())
    assert np.mean(found) == pytest.approx(explained + (1 - explained) * 0.05, abs=0.04)


def test_of_pairs_looks_token_ids_up() -> None:
    table = np.arange(32 * 54, dtype=float).reshape(32, 54)
    statements = np.array([[[4, 36], [5, 37]], [[4, 89], [35, 36]]])
    assert WORLD.of_pairs(table, statements).tolist() == [[0, 55], [53, 31 * 54]]


def test_pool_depends_on_content_alone_and_is_even() -> None:
    statements = draw_statements(WORLD, rng(), 8000)
    pools = pool(statements)
    np.testing.assert_array_equal(pool(statements[::-1])[::-1], pools)
    # 2000 of each expected, standard deviation sqrt(8000 * 1/4 * 3/4) = 39.
    assert np.abs(np.bincount(pools, minlength=4) - 2000).max() < 160


def test_sentences_end_each_clause_with_a_full_stop() -> None:
    assert sentences(np.array([[4, 36], [5, 37]])) == (4, 36, 2, 5, 37, 2)
    assert sentences(np.empty((0, 2), np.int64)) == ()


def test_net_worth_is_by_statement_and_less_the_price() -> None:
    world = replace(WORLD, price=0.25)
    expected = {(4, 36): world.worth[0, 0] - 0.25, (35, 89): world.worth[31, 53] - 0.25}
    assert world.net_worth([(4, 36), (35, 89)]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"verbs": 5}, "verbs = 5: allowed are 6 to 32"),  # one that the post does not say
        ({"objects": 55}, "objects = 55: allowed are 6 to 54"),
        ({"statements": 0}, "statements = 0: allowed are 1 to 8"),
        ({"interaction": 1.5}, "interaction = 1.5: allowed are 0 to 1"),
        ({"taste": -0.1}, "taste = -0.1: allowed are 0 to 1"),
        ({"price": 2}, "price = 2: allowed are 0 to 1"),
        ({"embellished_rate": 2}, "embellished_rate = 2: allowed are 0 to 1"),
        ({"annotator_noise": -1}, "annotator_noise = -1: allowed are 0 to 10"),
        ({"zipf_exponent": -1}, "zipf_exponent = -1: allowed are 0 to 10"),
        ({"eval_prompts": 0}, "eval_prompts = 0: allowed are 1 to 1000000"),
    ],
)
def test_a_world_that_cannot_be_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=f"tldr_worth parameter {message}"):
        TldrWorthConfig(**wrong)
