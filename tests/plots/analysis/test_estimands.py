import numpy as np
import pandas as pd
import pytest

from plots.analysis import estimands, stats
from plots.analysis.frames import Record
from tests.plots import simulated
from tests.plots.simulated import GRID


def record(**kwargs):
    return Record.of(*simulated.tables(**kwargs))


# Without noise the effects are the simulation's own constants.
EXACT = {"ppo": (0.90, 0.05, 20.0), "online_dpo": (0.88, 0.01, 10.0), "rloo": (0.85, 0.05, 15.0)}


def test_fall_per_octave_is_the_share_lost_times_the_gain():
    effects = estimands.fall_per_octave(record(algorithms=EXACT, noise=0.0), ["ppo"], GRID)
    assert effects.values == pytest.approx([0.05 * (0.90 - 0.58)] * 5)
    assert "Page" in effects.note


def test_fall_per_octave_needs_every_n():
    assert len(estimands.fall_per_octave(record(grid=(1, 2)), ["ppo"], GRID).values) == 0


def test_fall_per_octave_counts_a_diverged_run_at_the_sft_win_rate():
    sound = estimands.fall_per_octave(record(noise=0.0), ["ppo"], GRID).values
    broken = estimands.fall_per_octave(
        record(noise=0.0, diverged=[("ppo", 64, 0)]), ["ppo"], GRID
    ).values
    # At log2 N = 6 the weight of a cell in the slope is (6 - 3) / 28; w falls from .7508 to .58.
    at_64 = 0.58 + (0.91 - 0.58) * (1 - 6 * 0.04)
    assert broken[0] - sound[0] == pytest.approx(3 / 28 * (at_64 - 0.58))
    assert broken[1:] == pytest.approx(sound[1:])


def test_difference_between_n_is_the_first_minus_the_second():
    effects = estimands.difference_between_n(record(algorithms=EXACT, noise=0.0), ["ppo"], (1, 2))
    assert effects.values == pytest.approx([0.05 * 0.32] * 5)


def test_difference_at_n_pairs_seeds():
    whole = record()
    effects = estimands.difference_at_n(whole, ["ppo", "rloo"], (1,))
    final = whole.final.set_index("run_id")["win_rate"]
    expected = [final[f"ppo-1-s{s}"] - final[f"rloo-1-s{s}"] for s in range(5)]
    assert effects.values == pytest.approx(expected)


def test_retention_slope_difference_is_in_shares_of_the_gain():
    exact = record(algorithms=EXACT, noise=0.0)
    dpo_ppo = estimands.retention_slope_difference(exact, ["online_dpo", "ppo"], GRID)
    assert dpo_ppo.values == pytest.approx([0.04] * 5)
    # Equal shares lost of unequal gains are no difference.
    ppo_rloo = estimands.retention_slope_difference(exact, ["ppo", "rloo"], GRID)
    assert ppo_rloo.values == pytest.approx([0.0] * 5, abs=1e-12)


def test_change_at_matched_kl_is_zero_on_one_frontier():
    values = []
    for key in range(10):
        effects = estimands.change_at_matched_kl(record(key=key, noise=0.002), ["ppo"], GRID)
        assert effects.failure == ""
        values += list(effects.values)
    assert abs(np.mean(values)) < 0.004
    assert len(values) == 50


def test_change_at_matched_kl_sees_a_lower_frontier():
    # Each doubling of N costs .005 at every KL above 0: over 6 doublings -.03.
    runs, evals, steps = simulated.tables({"ppo": (0.91, 0.02, 20.0)}, noise=0.0)
    n = evals["run_id"].str.extract(r"-(\d+)-", expand=False).astype(int)
    evals["win_rate"] -= 0.005 * np.log2(n) * (evals["step"] > 0)
    effects = estimands.change_at_matched_kl(Record.of(runs, evals, steps), ["ppo"], GRID)
    assert effects.values.mean() == pytest.approx(-0.03, abs=0.006)


def test_change_at_matched_kl_is_void_where_nothing_is_learned():
    flat = record(algorithms={"ppo": (0.60, 0.02, 20.0)})
    assert "overlap only" in estimands.change_at_matched_kl(flat, ["ppo"], GRID).failure


def test_logarithmic_over_linear_is_positive_for_a_fall_per_octave():
    strong = record(algorithms={"ppo": (0.91, 0.1, 20.0)}, seeds=10)
    effects = estimands.logarithmic_over_linear(strong, ["ppo"], GRID)
    assert len(effects.values) == 10
    assert stats.t_interval(effects.values).lo > 0


def test_retention_slope_difference_has_a_calibrated_interval():
    rng = np.random.default_rng(0)
    x = np.log2(GRID)
    called = []
    for _ in range(150):
        # Both lose 3% of their gain per doubling; the gains are .30 and .15.
        cells = [
            {"algorithm": name, "n": n, "seed": s, "schedule_kind": "reuse", "sft_win_rate": 0.58,
             "win_rate": 0.58 + gain * (1 - 0.03 * octave) + rng.normal(0, 0.015)}
            for name, gain in (("online_dpo", 0.30), ("ppo", 0.15))
            for n, octave in zip(GRID, x, strict=True)
            for s in range(5)
        ]  # fmt: skip
        one = Record(pd.DataFrame(cells), pd.DataFrame(), frozenset())
        values = estimands.retention_slope_difference(one, ["online_dpo", "ppo"], GRID).values
        called.append(stats.t_interval(values).lo > 0)
    assert np.mean(called) <= 0.05


def test_effects_name_their_seeds_and_the_levels_of_their_arms():
    exact = record(algorithms=EXACT, noise=0.0)
    fall = estimands.fall_per_octave(exact, ["ppo"], (1, 2, 4))
    # .58 + .32 (1 - .05 log2 N); a margin per doubling counts twice over two doublings
    assert fall.levels == pytest.approx((0.90, 0.884, 0.868))
    assert (fall.seeds, fall.per_margin) == ((0, 1, 2, 3, 4), 2.0)
    slopes = estimands.retention_slope_difference(exact, ["online_dpo", "ppo"], (1, 2, 4))
    assert slopes.levels == pytest.approx((0.88, 0.877, 0.874, 0.90, 0.884, 0.868))
    assert slopes.per_margin == pytest.approx(2 * (0.30 + 0.32) / 2)  # doublings x mean gain
    between = estimands.difference_at_n(exact, ["ppo", "rloo"], (1,))
    assert between.levels == pytest.approx((0.90, 0.85))
    matched = estimands.change_at_matched_kl(record(), ["ppo"], (1, 2, 4))
    assert len(matched.levels) == 3
    assert len(matched.seeds) == len(matched.values) == 5


def test_a_seed_without_a_run_counts_in_no_arm():
    whole = record(algorithms=EXACT)
    final = whole.final[whole.final["run_id"] != "ppo-1-s0"]
    found = estimands.difference_at_n(Record(final, whole.curves, frozenset()),
                                           ["ppo", "rloo"], (1,))  # fmt: skip
    assert found.seeds == (1, 2, 3, 4)
    rloo = final[(final["algorithm"] == "rloo") & (final["n"] == 1) & (final["seed"] > 0)]
    assert found.levels[1] == pytest.approx(rloo["win_rate"].mean())
