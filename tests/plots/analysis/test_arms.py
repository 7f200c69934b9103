from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from plots.analysis import arms, checks
from tests.plots.armed import Made, record

T = {"T = 1": Made(0.20, 10.0), "T = 2": Made(0.25, 25.0), "T = 3": Made(0.24, 48.0)}
SIZES = {"2m": 2.0, "0.1m": 1.0}


def test_times_are_medians_over_updates_of_generation_and_of_scoring_with_learning():
    steps = pd.DataFrame(
        {
            "run_id": ["a", "a", "a", "b"],
            "generate_s": [9.0, 0.3, 0.1, 1.0],
            "score_s": [9.0, 0.1, 0.2, 1.0],
            "learn_s": [9.0, 0.1, 0.3, 2.0],
        }
    )
    assert arms.times(steps).to_dict("list") == {
        "run_id": ["a", "b"],
        "generate_s": [0.3, 1.0],  # the median of 9, .3, .1
        "train_s": [0.5, 3.0],  # of 18, .2, .5
    }
    # The longer phase is the time of an update; a phase without a time leaves it unknown.
    runs = pd.DataFrame({"generate_s": [0.3, 1.0, 1.0], "train_s": [0.5, 0.9, np.nan]})
    assert arms.update_s(runs).tolist()[:2] == [0.5, 1.0]
    assert np.isnan(arms.update_s(runs).iloc[2])


def test_arm_gain_is_the_mean_of_the_others_minus_the_first():
    found = arms.arm_gain(record(T), ["online_dpo"], list(T))
    assert found.values == pytest.approx([0.045] * 5)  # (.25 + .24) / 2 - .20
    assert found.seeds == (0, 1, 2, 3, 4)
    # Seeds add .01 each: on average .02.
    assert found.levels == pytest.approx((0.72, 0.77, 0.76))


def test_arm_gain_is_averaged_over_sizes():
    found = arms.arm_gain(record(T, SIZES), ["online_dpo"], ["T = 1", "T = 2"])
    assert found.values == pytest.approx([(0.05 + 2 * 0.05) / 2] * 5)
    # 0.1m, 2m of each arm: .5 + .22, .5 + 2 x .22, .5 + .27, .5 + 2 x .27
    assert found.levels == pytest.approx((0.72, 0.94, 0.77, 1.04))


def test_arm_gain_of_the_area():
    # The trapezoid of 1 - (1 - t)^2 at t = i / 8 is 2/3 - 1 / (6 x 64) = .6640625. Half as many
    # updates are as much of training.
    half = {"K = 2": Made(0.2, 10.0), "K = 4": replace(Made(0.2, 10.0), updates=32)}
    found = arms.arm_gain(record(half), ["online_dpo"], list(half), "win_rate_area")
    assert found.values == pytest.approx([0.0] * 5, abs=1e-12)
    assert found.levels == pytest.approx([0.5 + 0.22 * 0.6640625] * 2)


def test_arm_gain_below_largest_leaves_the_largest_size_out():
    pair = ["T = 1", "T = 2"]
    two = arms.arm_gain_below_largest(record(T, SIZES), ["online_dpo"], pair)
    assert two.values == pytest.approx([0.05] * 5)  # of 0.1m
    one = arms.arm_gain_below_largest(record(T, {"2m": 2.0}), ["online_dpo"], pair)
    assert one.values == pytest.approx([0.10] * 5)


def test_a_seed_without_a_run_counts_in_no_arm():
    whole = record(T, SIZES)
    final = whole.final[whole.final["run_id"] != "2m-T = 2-s3"]
    holed = replace(whole, final=final)
    assert arms.arm_gain(holed, ["online_dpo"], list(T)).seeds == (0, 1, 2, 4)
    assert arms.arm_gain(holed, ["online_dpo"], ["T = 1", "T = 3"]).seeds == (0, 1, 2, 3, 4)
    assert len(arms.arm_gain(holed, ["online_dpo"], ["T = 1", "T = 4"]).values) == 0
    assert len(arms.arm_gain(holed, ["rloo"], list(T)).values) == 0


def test_kl_at_matched_win_rate_is_the_ratio_of_nats_per_win_rate():
    # Straight lines from SFT: 10 / .20 = 50, 25 / .25 = 100, 48 / .24 = 200 nats per 1 of win rate.
    one = record(T, seeds=1)
    found = arms.kl_at_matched_win_rate(one, ["online_dpo"], list(T))
    assert found.values == pytest.approx([(np.log(2) + np.log(4)) / 2])
    assert found.failure == ""
    assert found.note == "matched up to a gain of +0.180"  # .9 of .20, the smallest
    # A size with twice the gains has the same ratio.
    found = arms.kl_at_matched_win_rate(record(T, SIZES, seeds=1), ["online_dpo"], list(T)[:2])
    assert found.values == pytest.approx([np.log(2)])


def test_kl_at_matched_win_rate_is_void_where_an_arm_gains_little_or_nothing():
    little = T | {"T = 3": Made(0.05, 5.0)}
    found = arms.kl_at_matched_win_rate(record(little, seeds=1), ["online_dpo"], list(T))
    assert found.failure == "all arms together gain only +0.050 over SFT"
    none = T | {"T = 3": Made(-0.05, 5.0)}
    found = arms.kl_at_matched_win_rate(record(none, seeds=1), ["online_dpo"], list(T))
    assert len(found.values) == 0
    assert found.failure


def test_times_as_fast_is_the_ratio_of_all_updates_times_minus_1():
    # K = 2: 64 updates of .06 s (training); K = 4: 32 of .08 (generation, twice .04).
    half = {
        "K = 2": Made(0.2, 10.0),
        "K = 4": Made(0.2, 15.0, updates=32, generate_s=0.08, score_s=0.03),
    }
    found = arms.times_as_fast(record(half), ["online_dpo"], list(half))
    assert found.values == pytest.approx([64 * 0.06 / (32 * 0.08) - 1] * 5)  # .5
    assert found.note == "generation 40 ms, training 60 ms per update at K = 2"
    assert (found.failure, found.levels) == ("", ())


def test_times_as_fast_says_that_a_setting_is_not_training_bound():
    slow = {"K = 2": Made(0.2, 10.0, generate_s=0.07), "K = 4": Made(0.2, 15.0, updates=32)}
    found = arms.times_as_fast(record(slow), ["online_dpo"], list(slow))
    assert found.failure == (
        "not training-bound: generation 70 ms, training 60 ms per update at K = 2"
    )


def test_summary_has_what_each_arm_reached_and_its_times():
    half = {"K = 4": Made(0.2, 15.0, 32, generate_s=0.08), "K = 2": Made(0.2, 10.0)}
    table = arms.summary(record(half, SIZES))
    assert table["model"].tolist() == ["0.1m", "0.1m", "2m", "2m"]
    first, second = table.to_dict("records")[:2]
    assert (first["arm"], first["updates"]) == ("K = 2", 64)
    assert (second["arm"], second["updates"]) == ("K = 4", 32)
    assert (second["generate_s"], second["train_s"]) == pytest.approx((0.08, 0.06))
    assert (first["run_s"], second["run_s"]) == pytest.approx((64 * 0.06, 32 * 0.08))
    assert (first["win_rate"], first["kl_nats"]) == pytest.approx((0.72, 10.0))
    assert first["seeds"] == 5


def test_an_arm_must_learn_something_for_a_claim_to_be_judged():
    assert checks.failed_checks(record(T), ["online_dpo"], [1], list(T)) == []
    flat = record(T | {"T = 1": Made(-0.02, 1.0)}, SIZES)  # seeds gain -.02, -.01, ... .02
    assert checks.failed_checks(flat, ["online_dpo"], [1], list(T)) == [
        f"online_dpo shows no clear gain over SFT at T = 1, model {size}" for size in ("0.1m", "2m")
    ]
