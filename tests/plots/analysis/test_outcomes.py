import pandas as pd
import pytest

from bench.records import store
from plots.analysis.outcomes import Discordance, mcnemar, paired
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


def wins(run_id, *prompts):
    """Return outcomes of a run that wins on these of twenty prompts."""
    rows = [(run_id, at, "win" if at in prompts else "loss", 4, 4) for at in range(20)]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_mcnemar_is_the_sign_test_on_the_prompts_that_one_alone_wins():
    outcomes = pd.concat([wins("a", *range(10), 19), wins("b", 0, 1, 2, 18, 19)])
    # prompts 3 to 9 against 18: p = 2 (C(8, 0) + C(8, 1)) / 2^8 = 18 / 256
    assert mcnemar(outcomes, "a", "b") == Discordance(7, 1, pytest.approx(18 / 256))
    assert mcnemar(outcomes, "b", "a") == Discordance(1, 7, pytest.approx(18 / 256))


def test_mcnemar_of_runs_that_win_alike_or_have_no_prompt_in_common():
    outcomes = pd.concat([wins("a", 3), wins("b", 3), wins("c", 4).assign(prompt_id=range(20, 40))])
    assert mcnemar(outcomes, "a", "b") == Discordance(0, 0, 1.0)
    assert mcnemar(outcomes, "a", "c") is None
    assert mcnemar(outcomes, "a", "of before") is None


def test_a_tie_is_no_win_for_mcnemar():
    # of a-s0 and b-s0: prompt 7 is won by the first alone, 8 (tie, win) by the second
    assert mcnemar(OUTCOMES, "a-s0", "b-s0") == Discordance(1, 1, 1.0)
