import math

import pandas as pd
import pytest

from plots.analysis import warning
from plots.analysis.frames import Record

N = (1, 2, 4, 8)
SFT = 0.4


def record(wins, **columns):
    """Return a record of PPO: by seed the final win rates and other columns, by N."""
    rows = [
        {"algorithm": "ppo", "schedule_kind": "reuse", "n": n, "seed": seed, "sft_win_rate": SFT,
         "win_rate": win, **dict.fromkeys(warning.COLUMNS, math.nan),
         **{name: values[seed][i] for name, values in columns.items()}}
        for seed, ofs in enumerate(wins)
        for i, (n, win) in enumerate(zip(N, ofs, strict=True))
    ]  # fmt: skip
    return Record(pd.DataFrame(rows), pd.DataFrame(), frozenset())


def test_octaves_before_are_between_the_first_falls_below_four_fifths():
    # Gains .2, .2, .18, .1: shares 1, 1, .9, .5 fall below .8 a quarter of the way from 4 to 8.
    wins = [(0.6, 0.6, 0.58, 0.5)] * 2
    # ESS/B 1, .9, .7, .2: half of the way from 2 to 4.
    made = record(wins, ess_fraction=[(1.0, 0.9, 0.7, 0.2)] * 2)
    found = warning.octaves_before_win_rate(made, ["ppo"], N)
    assert found.values.tolist() == pytest.approx([2.25 - 1.5] * 2)
    assert found.failure == ""


def test_what_never_falls_counts_at_the_largest_n_and_two_that_never_do_say_nothing():
    flat = [(0.6, 0.6, 0.6, 0.6)]
    found = warning.octaves_before_win_rate(
        record(flat, ess_fraction=[(1.0, 0.7, 0.6, 0.5)]), ["ppo"], N
    )
    assert found.values.tolist() == pytest.approx([3 - 2 / 3])  # 1 to .7: two thirds to .8
    assert found.note == "the win rate never falls in 1 of 1 seeds"
    silent = warning.octaves_before_win_rate(record(flat, ess_fraction=[(1.0,) * 4]), ["ppo"], N)
    assert silent.failure == "neither falls"


def test_a_seed_that_gains_less_than_the_mean_on_fresh_data_has_fallen_at_once():
    wins = [(0.7, 0.7, 0.7, 0.7), (0.5, 0.5, 0.5, 0.5)]  # gains .3 and .1, mean .2
    found = warning.octaves_before_win_rate(
        record(wins, ess_fraction=[(1.0, 0.7, 0.6, 0.5)] * 2), ["ppo"], N
    )
    assert found.values.tolist() == pytest.approx([3 - 2 / 3, 0 - 2 / 3])


def test_the_cosine_rises_per_doubling():
    made = record([(0.6,) * 4], gradient_cosine=[(0.1, 0.2, 0.3, 0.4)])
    assert warning.cosine_rise_per_octave(made, ["ppo"], N).values.tolist() == pytest.approx([0.1])


def test_a_record_without_diagnostics_has_no_effects():
    bare = record([(0.6,) * 4])
    bare = Record(bare.final.drop(columns=list(warning.COLUMNS)), bare.curves, frozenset())
    for effects in (warning.octaves_before_win_rate, warning.cosine_rise_per_octave):
        assert len(effects(bare, ["ppo"], N).values) == 0


def test_it_moves_from_where_every_n_differs_beyond_chance():
    table = pd.DataFrame(
        {1: [0.0, 0.0, 0.0], 2: [1.0, 1.1, 0.9], 4: [0.1, -0.1, 0.0], 8: [1, 1.1, 1.2]}
    )
    assert warning.first_moved(table) == 8  # at 4 it is back
    assert warning.first_moved(table[[1, 2]]) == 2
    assert warning.first_moved(table[[1, 2, 4]]) is None


def test_the_table_sets_each_quantity_beside_the_win_rate():
    wins = [(0.6 + e, 0.6 + e, 0.6 + e, 0.5) for e in (0.0, 0.01, -0.01)]
    clips = [(0.0, 0.1, 0.2, 0.3 + e) for e in (0.0, 0.01, -0.01)]
    positive = [[2 * value for value in row] for row in clips]
    zero = [(0.0,) * 4] * 3
    made = record(wins, clip_fraction_positive=positive, clip_fraction_negative=zero)
    (row,) = warning.table(made).to_dict("records")
    assert (row["quantity"], row["fresh"], row["stalest"]) == (
        "share clipped",
        0.0,
        pytest.approx(0.3),
    )
    assert (row["moves_at"], row["win_rate_moves_at"], row["octaves_before"]) == ("2", "8", 2.0)
