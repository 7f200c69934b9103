"""The generated posts."""

import numpy as np
import pytest

from bench.errors import UserError
from bench.tasks.generated.text import pool, sentences
from bench.tasks.tldr_tiny.world import OWN, TldrTinyConfig, draw_statements

WORLD = TldrTinyConfig()


def rng() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=7))


def test_vocabulary_has_specials_then_the_words_of_the_chosen_sizes() -> None:
    small = TldrTinyConfig(subjects=2, verbs=3, objects=4, statements=2, max_own=1, max_clauses=2)
    assert " ".join(small.vocabulary()) == (
        "<pad> <eos> . tl;dr: i boss mum lost found bought car job dog cat"
    )
    assert (small.first_verb, small.first_object) == (7, 10)
    assert len(WORLD.vocabulary()) == len(set(WORLD.vocabulary())) == 60


def test_statements_have_a_subject_a_verb_and_an_object() -> None:
    subjects, verbs, objects = draw_statements(WORLD, rng(), 1000).transpose(2, 0, 1)
    # 5 specials, of which the last is "i"; then 11 subjects, 16 verbs and 28 objects.
    assert set(np.unique(subjects)) == {OWN, *range(5, 16)}
    assert set(np.unique(verbs)) == set(range(16, 32))
    assert set(np.unique(objects)) == set(range(32, 60))


def test_verbs_and_objects_do_not_repeat_within_a_post() -> None:
    statements = draw_statements(WORLD, rng(), 1000)
    for slot in (1, 2):
        assert all(len(set(row)) == 5 for row in statements[:, :, slot].tolist())


def test_own_statements_are_one_to_max_own_equally_often_and_anywhere() -> None:
    own = draw_statements(WORLD, rng(), 9000)[:, :, 0] == OWN
    # 3000 posts of each expected, standard deviation sqrt(9000 * 1/3 * 2/3) = 45.
    assert np.abs(np.bincount(own.sum(1), minlength=6) - [0, 3000, 3000, 3000, 0, 0]).max() < 180
    # A position is own in 2 of 5 posts: 3600, standard deviation at most 47.
    assert np.abs(own.sum(0) - 3600).max() < 190


def test_pool_depends_on_content_alone_and_is_even() -> None:
    statements = draw_statements(WORLD, rng(), 8000)
    pools = pool(statements)
    np.testing.assert_array_equal(pool(statements[::-1])[::-1], pools)
    assert pool(statements[17:18])[0] == pools[17]
    # 2000 of each expected, standard deviation sqrt(8000 * 1/4 * 3/4) = 39.
    assert np.abs(np.bincount(pools, minlength=4) - 2000).max() < 160


def test_sentences_end_each_clause_with_a_full_stop() -> None:
    assert sentences(np.array([[4, 16, 32], [5, 17, 33]])) == (4, 16, 32, 2, 5, 17, 33, 2)
    assert sentences(np.empty((0, 3), np.int64)) == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"subjects": 0}, "subjects = 0: allowed are 1 to 11"),
        ({"verbs": 5}, "verbs = 5: allowed are 6 to 16"),  # 5 statements and one to misreport
        ({"objects": 29}, "objects = 29: allowed are 6 to 28"),
        ({"max_own": 5}, "max_own = 5: allowed are 1 to 4"),
        ({"max_clauses": 2}, "max_clauses = 2: allowed are 3 to 5"),
        ({"omit_rate": 1.5}, "omit_rate = 1.5: allowed are 0 to 1"),
        ({"eval_prompts": 0}, "eval_prompts = 0: allowed are 1 to 1000000"),
    ],
)
def test_world_params_refuse_what_cannot_be(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=f"tldr_tiny parameter {message}"):
        TldrTinyConfig(**wrong)
