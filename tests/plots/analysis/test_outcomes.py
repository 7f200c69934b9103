import pandas as pd
import pytest

from bench.records import store
from plots.analysis.outcomes import paired
from tests.bench import fakes

COLUMNS = ["run_id", "prompt_id", "outcome", "completion_tokens", "reference_tokens"]
OUTCOMES = pd.DataFrame(
    [
        ("a-s0", 7, "win", 4, 6), ("a-s0", 8, "tie", 5, 5), ("a-s0", 9, "loss", 9, 3),
        ("a-s1", 7, "win", 6, 6), ("a-s1", 8, "loss", 7, 5), ("a-s1", 9, "loss", 9, 3),
        ("b-s0", 8, "win", 5, 5), ("b-s0", 9, "loss", 2, 3), ("b-s0", 7, "loss", 8, 6),
        ("b-s1", 7, "tie", 6, 6), ("b-s1", 8, "win", 5, 5), ("b-s1", 9, "tie", 3, 3),
        ("c-s0", 7, "win", 1, 6),
    ],
    columns=COLUMNS,
)  # fmt: skip


def test_two_arms_are_paired_by_prompt_whatever_the_order_of_rows():
    table = paired(OUTCOMES, ["a-s0", "a-s1"], ["b-s0", "b-s1"])
    expected = pd.DataFrame(
        {
            "first": [1.0, 0.25, 0.0],
            "second": [0.25, 1.0, 0.25],
            "difference": [0.75, -0.75, -0.25],
            "first_tokens": [5.0, 6.0, 9.0],
            "second_tokens": [7.0, 5.0, 2.5],
            "reference_tokens": [6, 5, 3],
        },
        index=pd.Index([7, 8, 9], name="prompt_id"),
    )
    pd.testing.assert_frame_equal(table, expected)
    # Win rates of the arms: (.5 + .333) / 2 = .41667 and (.333 + .667) / 2 = .5.
    assert table["difference"].mean() == pytest.approx(0.41667 - 0.5, abs=1e-5)


def test_only_prompts_of_both_arms_are_there():
    assert paired(OUTCOMES, ["c-s0"], ["a-s0"]).index.tolist() == [7]
    assert paired(OUTCOMES, ["c-s0"], ["a-s0"])["difference"].tolist() == [0.0]


def test_an_arm_without_outcomes_gives_an_empty_table():
    none = paired(OUTCOMES, ["a-s0"], ["of before"])
    assert none.empty
    assert none.columns.tolist() == paired(OUTCOMES, ["a-s0"], ["b-s0"]).columns.tolist()
    assert paired(OUTCOMES.iloc[:0], ["a-s0"], ["b-s0"]).empty


def test_what_the_store_returns_is_read(tmp_path):
    first, second = (fakes.write(tmp_path, fakes.config(seed=seed)) for seed in (0, 1))
    assert len(paired(store.read(tmp_path, "outcomes"), [first], [second])) == 16
    for run_id in (first, second):
        fakes.make_older(tmp_path, run_id)
    assert paired(store.read(tmp_path, "outcomes"), [first], [second]).empty
