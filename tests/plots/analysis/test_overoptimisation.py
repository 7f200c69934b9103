from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from plots.analysis import overoptimisation
from tests.plots import sized

DPO = ("online_dpo",)
RATE, LONG = ("0.1m", 2e-4, 128), ("0.1m", 1e-4, 512)  # an arm: reward model, rate, updates


def effects(record):
    return overoptimisation.fall_while_proxy_rises(record, DPO, (1,))


def with_curves(record, change):
    return replace(record, curves=change(record.curves.copy()))


def test_falls_are_from_the_peak_to_the_end_of_each_run():
    runs = overoptimisation.falls(sized.pushed({RATE: (0.80, 0.70), LONG: (0.85, 0.65)}))
    assert len(runs) == 10
    arms = dict(list(runs.groupby("updates")))
    # as made: up to half of the updates and down from there; the proxy is 1 there and 2 at the end
    assert arms[128]["peak_step"].tolist() == [64] * 5
    assert arms[512]["peak_step"].tolist() == [256] * 5
    numbers = arms[512][["sft", "peak", "end", "fall", "proxy_rise"]].to_numpy()
    assert numbers == pytest.approx(np.array([[0.58, 0.85, 0.65, 0.20, 1.0]] * 5))
    assert arms[128]["fall"].tolist() == pytest.approx([0.10] * 5)


def test_a_runs_own_luck_is_no_peak():
    def lucky(curves):
        curves.loc[(curves["seed"] == 2) & (curves["step"] == 16), "win_rate"] = 0.95
        return curves

    record = with_curves(sized.pushed({RATE: (0.80, 0.70)}), lucky)
    runs = overoptimisation.falls(record).set_index("seed")
    # For seed 2 the others peak at 64 as ever, where it has .80. Its .95 raises the others' mean
    # at step 16 (.635 else) only to (3 x .635 + .95) / 4 = .714, below .80.
    assert runs.loc[2, "peak_step"] == 64
    assert runs["fall"].tolist() == pytest.approx([0.10] * 5)


def test_noise_around_a_level_is_no_fall_though_every_run_is_below_its_best():
    flat = sized.pushed({RATE: (0.58, 0.58)}, noise=0.02, seeds=40)
    runs = overoptimisation.falls(flat)
    # Seeds are independent: the mean is within 4 standard errors, .028 / sqrt(40), of 0 ...
    assert abs(runs["fall"].mean()) < 4 * 0.028 / np.sqrt(40)
    # ... whereas of 16 numbers of noise .02 the best is 1.77 x .02 above the last on average.
    by_run = flat.curves.groupby("run_id")["win_rate"]
    assert (by_run.max() - by_run.last()).mean() > 0.025


def test_over_optimised_are_runs_that_fall_by_three_points_while_the_proxy_rises():
    runs = pd.DataFrame({"fall": [0.03, 0.029, 0.2, -0.1], "proxy_rise": [0.1, 0.1, 0.0, 1.0]})
    assert overoptimisation.over_optimised(runs).tolist() == [True, False, False, False]


def test_the_effect_is_the_mean_fall_over_the_arms():
    found = effects(sized.pushed({RATE: (0.80, 0.70), LONG: (0.85, 0.65)}))
    assert found.values == pytest.approx([0.15] * 5)
    assert found.levels == pytest.approx((0.825, 0.675))
    assert found.seeds == (0, 1, 2, 3, 4)
    assert found.note == "gold fell by 0.03 or more while the proxy rose in 10 of 10 runs"
    assert found.failure == ""


def test_a_fall_without_a_rise_of_the_proxy_counts_nothing():
    def stuck(curves):
        later = (curves["seed"] == 0) & (curves["step"] > 64)
        curves.loc[later, "reward_mean"] = 1.0  # as at the peak
        return curves

    found = effects(with_curves(sized.pushed({RATE: (0.80, 0.70)}), stuck))
    assert found.values == pytest.approx([0.0, 0.1, 0.1, 0.1, 0.1])
    assert "in 4 of 5 runs" in found.note


def test_a_win_rate_that_still_rises_does_not_fall():
    found = effects(sized.pushed({RATE: (0.75, 0.80)}))  # the highest is the last
    assert found.values == pytest.approx([0.0] * 5)


def test_a_seed_counts_if_it_has_a_sound_run_in_every_arm():
    record = sized.pushed({RATE: (0.80, 0.70), LONG: (0.80, 0.70)})

    def diverged(curves):
        lost = (curves["seed"] == 1) & (curves["updates"] == 512)
        return curves.assign(status=curves["status"].where(~lost, "diverged"))

    assert effects(with_curves(record, diverged)).seeds == (0, 2, 3, 4)


def test_one_seed_has_no_others_to_find_its_peak_by():
    record = sized.pushed({RATE: (0.80, 0.70)}, seeds=1)
    assert overoptimisation.falls(record).empty
    assert len(effects(record).values) == 0


def test_without_a_gain_at_the_peak_the_effect_means_nothing():
    found = effects(sized.pushed({RATE: (0.58, 0.40)}))
    assert found.failure == "no clear gain over SFT at the peak"
