from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from plots.analysis import rates
from plots.analysis.frames import Record

RATES = (1e-4, 2e-4, 4e-4, 8e-4)
WIDE = (5e-5, *RATES)
SFT = 0.4


def record(wins, grid=RATES):
    """Return a record of final win rates by (lag, seed), one per rate."""
    rows = [
        {"algorithm": "rloo", "n": lag, "seed": seed, "learning_rate": rate, "win_rate": win,
         "sft_win_rate": SFT}
        for (lag, seed), values in wins.items()
        for rate, win in zip(grid, values, strict=True)
    ]  # fmt: skip
    return Record(pd.DataFrame(rows), pd.DataFrame(), frozenset())


def test_the_largest_stable_rate_is_interpolated_where_half_of_the_best_gain_is_lost():
    # Best gain .2 at 2e-4, half of it .1. Between 4e-4 (gain .15) and 8e-4 (gain -.05) it is
    # crossed a quarter of the way on the logarithm: 4e-4 * 2 ** .25.
    found = rates.largest_stable(record({(1, 0): (0.55, 0.60, 0.55, 0.35)}), "rloo")
    assert found["is_bound"].tolist() == [False]
    assert 2 ** found["log2_rate"].item() == pytest.approx(4e-4 * 2**0.25)


def test_a_small_gain_below_the_best_rate_is_no_instability():
    # Gains .02, .1, .2, .15: below the best rate training is slow; above it nothing falls to .1.
    found = rates.largest_stable(record({(1, 0): (0.42, 0.50, 0.60, 0.55)}), "rloo")
    assert found["is_bound"].tolist() == [True]
    assert 2 ** found["log2_rate"].item() == pytest.approx(8e-4)


def test_a_seed_that_never_gains_has_no_stable_rate():
    assert rates.largest_stable(record({(1, 0): (0.4, 0.39, 0.3, 0.1)}), "rloo").empty


def lawful(lags, exponent, noise=(0.0, 0.1, -0.1)):
    """Win rates with half of the gain at a rate of 5e-4 * lag ** -exponent, and a little apart."""
    wins = {}
    for seed, shift in enumerate(noise):
        for lag in lags:
            edge = np.log2(5e-4) - exponent * np.log2(lag) + shift
            # gain .2 up to half an octave below it, from there on .2 less an octave: .1 at it
            away = np.log2(WIDE) - edge
            wins[lag, seed] = SFT + 0.2 * np.clip(0.5 - away, -0.5, 1)
    return record(wins, WIDE)


def test_the_slope_finds_the_law_that_made_the_rates():
    whole = lawful((1, 2, 4), 1.0)
    effects = rates.fall_of_stable_rate(whole, ["rloo"], (1, 2, 4))
    assert effects.values == pytest.approx([1.0, 1.0, 1.0])  # the seeds' shifts are no slope
    assert effects.seeds == (0, 1, 2)
    assert effects.failure == ""
    assert rates.short_of_inverse(whole, ["rloo"], (1, 2, 4)).values == pytest.approx([0, 0, 0])
    half = rates.fall_of_stable_rate(lawful((1, 4, 16), 0.5), ["rloo"], (1, 4, 16))
    assert half.values == pytest.approx([0.5, 0.5, 0.5])


def test_a_seed_without_every_lag_does_not_count():
    whole = lawful((1, 2, 4), 1.0)
    final = whole.final[~((whole.final["seed"] == 1) & (whole.final["n"] == 2))]
    found = rates.fall_of_stable_rate(replace(whole, final=final), ["rloo"], (1, 2, 4))
    assert found.seeds == (0, 2)
    assert rates.fall_of_stable_rate(whole, ["rloo"], (1, 64)).seeds == ()


def test_too_many_lower_bounds_make_it_invalid():
    flat = {(lag, seed): (0.5, 0.55, 0.6, 0.6) for lag in (1, 4) for seed in (0, 1, 2)}
    found = rates.fall_of_stable_rate(record(flat), ["rloo"], (1, 4))
    assert found.failure == "too few unstable rates: 6 of 6 stable rates are lower bounds"
    one = {**flat, **{(4, seed): (0.5, 0.6, 0.4, 0.3) for seed in (0, 1, 2)}}
    some = rates.fall_of_stable_rate(record(one), ["rloo"], (1, 4))
    assert some.note == "3 of 6 stable rates are lower bounds"
    assert some.failure  # a half is more than a quarter
