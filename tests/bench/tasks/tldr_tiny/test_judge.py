"""The gold judge, clause by clause. The post of all examples has two own statements."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tasks.generated.task import build_tokenizer
from bench.tasks.tldr_tiny.judge import Verdict, judge
from bench.tasks.tldr_tiny.world import TldrTinyConfig

TOKENIZER = build_tokenizer(TldrTinyConfig())
POST = "boss lost car . i found dog . mum sold ring . i broke cake . dad hid money . tl;dr:"


def tokens(text: str) -> list[int]:
    return TOKENIZER(text)["input_ids"]


def gold(completion: str) -> float:
    return judge(tokens(POST), tokens(completion)).gold


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        # covered / own - 1/4 superfluous - 1/4 repeated - 1/2 invented - 1 unfinished
        ("i found dog . i broke cake . <eos>", 2 / 2),
        ("i broke cake . i found dog . <eos>", 2 / 2),  # order is free
        ("i found dog . <eos>", 1 / 2),
        ("<eos>", 0 / 2),
        ("i found dog . i broke cake . dad hid money . <eos>", 1 - 1 / 4),
        ("mum sold ring . dad hid money . <eos>", 0 - 2 / 4),
        ("i found dog . i found dog . i broke cake . <eos>", 1 - 1 / 4),
        ("i found dog . i found dog . i found dog . <eos>", 1 / 2 - 2 / 4),
        ("mum sold ring . mum sold ring . <eos>", -1 / 4 - 1 / 4),  # superfluous, then repeated
        ("i found cake . <eos>", -1 / 2),  # words of the post, never said together
        ("i found tent . i found tent . <eos>", -1 / 2 - 1 / 4),  # invented, then repeated
        ("boss found dog . <eos>", -1 / 2),  # somebody else's doing
        ("i found dog . . <eos>", 1 / 2 - 1 / 2),  # an empty clause is invented
        ("i found dog . i broke cake <eos>", 2 / 2),  # the last full stop may be missing
        ("i found dog . i broke <eos>", 1 / 2 - 1 / 2),
        ("i found dog . i broke cake .", 1 - 1),  # unfinished
        ("i found dog . i broke", 1 / 2 - 1 / 2 - 1),  # unfinished amid a clause
        ("i found dog . <eos> i broke cake . <eos>", 1 / 2),  # nothing counts after EOS
    ],
)
def test_gold_has_the_value_of_the_formula(completion: str, expected: float) -> None:
    assert gold(completion) == pytest.approx(expected, abs=1e-12)


def test_judge_counts_each_kind_of_clause() -> None:
    completion = "i found dog . dad hid money . i found dog . i lost tent . i broke"
    assert judge(tokens(POST), tokens(completion)) == Verdict(
        own=2, covered=1, superfluous=1, repeated=1, invented=2, unfinished=True
    )


@settings(deadline=None)
@given(st.lists(st.sampled_from(range(60)), max_size=24))
def test_every_clause_is_of_one_kind_and_gold_is_at_most_one(completion: list[int]) -> None:
    verdict = judge(tokens(POST), completion)
    counted = verdict.covered + verdict.superfluous + verdict.repeated + verdict.invented
    said = completion[: completion.index(1)] if 1 in completion else completion
    clauses = said.count(2) + (bool(said) and said[-1] != 2)
    assert counted == clauses
    assert verdict.gold <= 1
