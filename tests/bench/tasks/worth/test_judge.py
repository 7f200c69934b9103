"""The gold judge, clause by clause."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tasks.generated.task import build_tokenizer
from bench.tasks.generated.text import TLDR, clauses_of
from bench.tasks.tldr_worth.world import TldrWorthConfig
from bench.tasks.worth.judge import Values, Verdict, best, judge

WORLD = TldrWorthConfig(verbs=3, objects=3, statements=2, price=0.5)
TOKENIZER = build_tokenizer(WORLD)
#                 car   job   dog
WORTH = np.array([[0.95, 0.25, 0.45],  # lost
                  [0.15, 0.85, 0.35],  # found
                  [0.55, 0.05, 0.75]])  # bought  # fmt: skip
POST = "lost car . found dog . tl;dr:"  # worth .95 and .35


def tokens(text: str) -> list[int]:
    return TOKENIZER(text)["input_ids"]


def values(post: str, price: float = 0.5) -> Values:
    """Return worth minus price, as the task of summaries has it."""
    words = tokens(post)
    return {
        (verb, object_): WORTH[verb - 4, object_ - 7] - price
        for verb, object_ in clauses_of(words[: words.index(TLDR)])
    }


def gold(completion: str) -> float:
    return judge(values(POST), tokens(completion)).gold


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        # sum of (worth - 0.5) - [empty] - repeated / 2 - invented - [unfinished]
        ("lost car . <eos>", 0.45),
        ("found dog . <eos>", -0.15),
        ("found dog . lost car . <eos>", 0.45 - 0.15),  # order is free
        ("<eos>", -1),
        ("lost car . lost car . <eos>", 0.45 - 0.5),
        ("lost car . bought dog . <eos>", 0.45 - 1),  # worth .75, but the post does not say it
        ("lost dog . <eos>", -1),  # words of the post, never said together
        ("lost dog . lost dog . <eos>", -1 - 0.5),  # invented, then repeated
        ("lost car . . <eos>", 0.45 - 1),  # an empty clause is invented
        ("lost car . found dog <eos>", 0.45 - 0.15),  # the last full stop may be missing
        ("lost car . found <eos>", 0.45 - 1),
        ("lost car found . <eos>", -1),
        ("lost car .", 0.45 - 1),  # unfinished
        ("lost car . <eos> found dog . <eos>", 0.45),  # nothing counts after EOS
        ("", -1 - 1),  # says nothing and does not end
    ],
)
def test_gold_has_the_value_of_the_formula(completion: str, expected: float) -> None:
    assert gold(completion) == pytest.approx(expected, abs=1e-12)


def test_judge_counts_each_kind_of_clause() -> None:
    completion = "found dog . lost car . lost car . bought job . lost"
    verdict = judge(values(POST), tokens(completion))
    assert verdict == Verdict(
        told=2,
        value=pytest.approx(0.3),
        empty=False,
        repeated=1,
        invented=2,
        unfinished=True,
    )
    assert verdict.clauses == 5


@settings(deadline=None)
@given(st.lists(st.sampled_from(range(10)), max_size=12))
def test_every_clause_is_of_one_kind_and_gold_is_at_most_the_best(completion: list[int]) -> None:
    verdict = judge(values(POST), completion)
    said = completion[: completion.index(1)] if 1 in completion else completion
    clauses = said.count(2) + (bool(said) and said[-1] != 2)
    assert verdict.clauses == clauses
    assert verdict.gold <= best(values(POST))


@pytest.mark.parametrize("price", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("post", [POST, "found car . bought job . tl;dr:", "lost job . tl;dr:"])
def test_best_is_the_highest_of_all_selections(price: float, post: str) -> None:
    statements = [s.strip() for s in post.split("tl;dr:", maxsplit=1)[0].split(" .") if s.strip()]
    every = [
        " ".join([*(f"{clause} ." for clause in chosen), "<eos>"])
        for size in range(len(statements) + 1)
        for chosen in permutations(statements, size)
    ]
    worth = values(post, price)
    highest = max(judge(worth, tokens(c)).gold for c in every)
    assert best(worth) == pytest.approx(highest, abs=1e-12)
