"""The annotators' habits, by rates that are 0 or 1, then by their measured shares."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from bench.tasks.generated.posts import POOL_OF, STREAMS, AnnotatedPost
from bench.tasks.generated.text import pool
from bench.tasks.tldr_tiny.annotators import (
    annotated_posts,
    misreport,
    perturb,
)
from bench.tasks.tldr_tiny.judge import Verdict, judge
from bench.tasks.tldr_tiny.world import TldrTinyConfig

FAITHFUL = TldrTinyConfig(superfluous_rate=0.0, omit_rate=0.0, misreport_rate=0.0)


def verdicts(world: TldrTinyConfig, n: int) -> list[Verdict]:
    posts = islice(annotated_posts(world, "train"), n)
    return [judge(post.prompt(), post.reference()) for post in posts]


def test_faithful_annotators_write_the_perfect_summary_in_the_order_of_the_post() -> None:
    for post in islice(annotated_posts(FAITHFUL, "train"), 200):
        own = [row for row in post.statements.tolist() if row[0] == 4]
        assert post.clauses.tolist() == own
        assert judge(post.prompt(), post.reference()).gold == 1.0


def test_padding_annotators_add_one_or_two_statements_of_others_where_there_is_room() -> None:
    world = replace(FAITHFUL, superfluous_rate=1.0)
    seen = {(v.own, v.superfluous) for v in verdicts(world, 2000)}
    # At most 4 clauses: with 3 own statements there is room for one.
    assert seen == {(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)}
    assert all(v.covered == v.own and v.invented == 0 for v in verdicts(world, 200))


def test_omitting_annotators_leave_out_one_own_statement_but_never_the_only_one() -> None:
    seen = {(v.own, v.covered) for v in verdicts(replace(FAITHFUL, omit_rate=1.0), 500)}
    assert seen == {(1, 1), (2, 1), (3, 2)}


def test_misreporting_annotators_get_one_clause_wrong() -> None:
    found = verdicts(replace(FAITHFUL, misreport_rate=1.0), 500)
    assert {(v.own - v.covered, v.invented) for v in found} == {(1, 1)}


def test_habits_come_at_their_rates() -> None:
    world = TldrTinyConfig(superfluous_rate=0.9, omit_rate=0.1, misreport_rate=0.05)
    found = verdicts(world, 6000)
    # Standard deviations: sqrt(.9 * .1 / 6000) = .004, sqrt(.05 * .95 / 6000) = .003. A misreported
    # noise clause is invented, no longer superfluous, so padding is told by the number of clauses.
    invented = np.mean([v.invented > 0 for v in found])
    padded = np.mean([v.covered + v.superfluous + v.invented > v.own for v in found if v.own == 1])
    assert invented == pytest.approx(0.05, abs=0.012)
    assert padded == pytest.approx(0.9, abs=0.03)


def test_misreport_changes_the_verb_or_the_object_to_another_of_its_kind() -> None:
    world, rng = TldrTinyConfig(), np.random.default_rng(0)
    clause = np.array([4, 16, 59])  # the first verb, the last object
    wrong = [tuple(misreport(world, rng, clause).tolist()) for _ in range(2000)]
    # All 15 other verbs with the object kept, all 27 other objects with the verb kept.
    assert set(wrong) == {(4, v, 59) for v in range(17, 32)} | {(4, 16, o) for o in range(32, 59)}
    assert clause.tolist() == [4, 16, 59]


def test_perturb_makes_one_edit() -> None:
    rng = np.random.default_rng(0)
    statements = np.array([[4, 16, 32], [5, 17, 33], [6, 18, 34], [7, 19, 35], [8, 20, 36]])
    post = AnnotatedPost(statements, statements[:1])
    found = {judge(post.prompt(), perturb(TldrTinyConfig(), rng, post)) for _ in range(500)}
    assert found == {
        Verdict(1, 0, 0, 0, 1, unfinished=False),  # misreported
        Verdict(1, 0, 0, 0, 0, unfinished=False),  # left out
        Verdict(1, 1, 0, 1, 0, unfinished=False),  # repeated
        Verdict(1, 1, 1, 0, 0, unfinished=False),  # a noise statement added
    }


def _texts(posts: Iterable[AnnotatedPost]) -> list[tuple[int, ...]]:
    return [post.prompt() for post in posts]


def test_streams_are_repeatable_and_differ() -> None:
    firsts = {name: _texts(islice(annotated_posts(FAITHFUL, name), 50)) for name in STREAMS}
    assert firsts["eval"] == _texts(islice(annotated_posts(FAITHFUL, "eval"), 50))
    assert len({tuple(texts) for texts in firsts.values()}) == len(STREAMS)
    other = _texts(islice(annotated_posts(replace(FAITHFUL, seed=1), "eval"), 50))
    assert other != firsts["eval"]


def test_streams_use_their_own_pool_of_posts() -> None:
    for name in STREAMS:
        statements = np.stack([p.statements for p in islice(annotated_posts(FAITHFUL, name), 300)])
        assert set(pool(statements)) == {POOL_OF[name]}
