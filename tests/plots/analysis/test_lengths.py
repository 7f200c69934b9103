"""Win rates at equal length: literal values, limits, and arms compared by them."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from plots.analysis import lengths
from plots.analysis.estimands import Effects, kl_saved_by_overlap
from plots.analysis.frames import Record
from tests.plots import timed


def test_where_length_does_not_matter_it_is_the_win_rate():
    # Wins are as frequent among longer as among shorter answers: b = 0, a = logit of the mean.
    scores, extra = [1, 1, 1, 0] * 50, np.repeat([-2, 2], 100)
    assert lengths.win_rate_at_equal_length(scores, extra) == pytest.approx(0.75, abs=1e-3)
    assert lengths.win_rate_at_equal_length(scores, [5] * 200) == pytest.approx(0.75, abs=1e-3)
    assert lengths.win_rate_at_equal_length([0.5] * 10, range(10)) == pytest.approx(0.5, abs=1e-3)


def test_what_length_explains_is_taken_out():
    # Three in four are longer by 2 and win in .9 of cases, one in four is shorter by 2 and wins in
    # .5: win rate .8. With t = tanh(2 / sd), sd = 4 sqrt(3/4 1/4) = sqrt 3, two values of length
    # are fitted exactly: a + b t = logit .9, a - b t = 0, so a = ln(9) / 2 and the answer .75.
    extra = np.repeat([2, -2], [750, 250])
    scores = np.concatenate([np.arange(750) % 10 > 0, np.arange(250) % 2 > 0])
    assert scores.mean() == pytest.approx(0.8)
    assert lengths.win_rate_at_equal_length(scores, extra) == pytest.approx(0.75, abs=1e-3)
    assert expit(np.log(9) / 2) == pytest.approx(0.75)


@pytest.mark.parametrize(("score", "expected"), [(1.0, 1.0), (0.0, 0.0)])
def test_where_all_is_won_or_lost_it_stays_finite(score, expected):
    found = lengths.win_rate_at_equal_length([score] * 100, range(100))
    assert found == pytest.approx(expected, abs=0.01)


def outcomes(record: Record, extra: dict[str, int]) -> pd.DataFrame:
    """Return 40 prompts per run; in half of them the completion is longer, and then it wins."""
    rows = [
        (run.run_id, prompt, ["loss", "tie", "win", "win"][prompt % 4],
         10 + (extra.get(run.timed, 0) if prompt % 2 else 0), 10)
        for run in record.final.itertuples() for prompt in range(40)
    ]  # fmt: skip
    columns = ["run_id", "prompt_id", "outcome", "completion_tokens", "reference_tokens"]
    return pd.DataFrame(rows, columns=columns)


def compared(record: Record) -> Effects:
    return lengths.overlapped_minus_split_at_equal_length(record, ["online_dpo"], [1])


def test_arms_are_compared_by_seed_and_a_diverged_run_counts_at_sft():
    record = Record.of(*timed.tables(seeds=2))
    record.final.loc[record.final["run_id"] == "0.1m-overlapped-s1", "status"] = "diverged"
    assert len(compared(record).values) == 0
    told = lengths.add_lengths(record, outcomes(record, {}))
    assert told.final["reference_tokens_mean"].unique().tolist() == [10]
    # Of equal lengths .625 are won, (0 + .5 + 1 + 1) / 4; SFT wins .6.
    found = compared(told)
    assert found.seeds == (0, 1)
    assert found.values == pytest.approx([0, 0.6 - 0.625], abs=1e-3)


def test_runs_without_outcomes_have_no_win_rate_at_equal_length():
    record = Record.of(*timed.tables(seeds=2))
    none = outcomes(record, {}).iloc[:0]
    told = lengths.add_lengths(record, none)
    assert told.final[lengths.AT_EQUAL_LENGTH].isna().all()
    assert len(compared(told).values) == 0


def test_kl_saved_is_the_log_ratio_of_final_kls():
    record = Record.of(*timed.tables(seeds=2))  # all end at .8 nats
    record.final.loc[record.final["run_id"] == "0.1m-overlapped-s1", "kl_nats"] = 0.4
    record.final.loc[record.final["run_id"] == "0.1m-split-s0", "kl_nats"] = 1.2
    found = kl_saved_by_overlap(record, ["online_dpo"], [1])
    assert found.values == pytest.approx([np.log(1.5), np.log(2)])
    record.final.loc[record.final["run_id"] == "0.1m-split-s0", "kl_nats"] = -0.1
    assert kl_saved_by_overlap(record, ["online_dpo"], [1]).seeds == (1,)
    assert len(kl_saved_by_overlap(record.where(timed="split"), ["online_dpo"], [1]).values) == 0
