import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from plots.analysis import stats

GRID = [1, 2, 4, 8, 16, 32, 64]


def test_t_interval_equals_the_textbook_formula():
    # mean .828, sum of squares .00228, n = 5; Student's t(.95; 4) = 2.13184679 from a table
    ours = stats.t_interval([0.81, 0.84, 0.80, 0.86, 0.83], 0.90)
    half = 2.13184679 * math.sqrt(0.00228 / 4 / 5)
    assert ours.estimate == pytest.approx(0.828)
    assert (ours.lo, ours.hi) == pytest.approx((0.828 - half, 0.828 + half), abs=1e-9)
    assert (ours.n, ours.level) == (5, 0.90)


def test_t_interval_of_no_seeds_is_nothing():
    none = stats.t_interval([])
    assert np.isnan([none.estimate, none.lo, none.hi]).all()
    assert none.n == 0


def test_t_interval_of_seeds_that_hardly_differ_is_their_mean():
    assert stats.t_interval([0.5, 0.5]) == stats.Interval(0.5, 0.5, 0.5, 2)
    close = stats.t_interval([0.5, 0.5 + 1e-16, 0.5 - 1e-16])
    assert (close.lo, close.hi) == pytest.approx((0.5, 0.5), abs=1e-15)


def test_t_interval_of_one_seed_has_no_bounds():
    one = stats.t_interval([0.8])
    assert one.estimate == 0.8
    assert math.isnan(one.lo)
    assert math.isnan(one.hi)


def test_t_interval_covers_at_its_level_where_the_bootstrap_does_not():
    rng = np.random.default_rng(0)
    covered = [(i := stats.t_interval(x)).lo <= 0 <= i.hi for x in rng.standard_normal((2000, 5))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)  # 3 standard errors


def test_win_rate_interval_is_the_delta_method_on_logits():
    # mean .9, sd .1/sqrt(2), n = 2: t = 12.7062, se = .05, logit half = 12.7062 * .05 / .09
    i = stats.win_rate_interval([0.85, 0.95])
    half = 12.7062047 * 0.05 / 0.09
    logit = math.log(9)
    assert i.estimate == pytest.approx(0.9)
    assert i.lo == pytest.approx(1 / (1 + math.exp(half - logit)), abs=1e-9)
    assert i.hi == pytest.approx(1 / (1 + math.exp(-half - logit)), abs=1e-9)


@given(st.lists(st.floats(0.001, 0.999), min_size=2, max_size=10))
def test_win_rate_interval_stays_between_0_and_1(values):
    i = stats.win_rate_interval(values)
    assert 0 <= i.lo <= i.estimate + 1e-12
    assert i.estimate - 1e-12 <= i.hi <= 1


def test_p_above_is_below_alpha_exactly_when_the_interval_is_above_the_bound():
    rng = np.random.default_rng(1)
    for x in rng.normal(0.02, 0.02, (200, 5)):
        assert (stats.p_above(x, 0.005) < 0.05) == (stats.t_interval(x).lo > 0.005)


def test_p_equivalent_equals_two_one_sided_tests_and_the_90_percent_interval():
    rng = np.random.default_rng(2)
    for x in rng.normal(0.005, 0.015, (200, 5)):
        p = stats.p_equivalent(x, 0.02)
        error = x.std(ddof=1) / math.sqrt(5)
        low = scipy_stats.t.sf((x.mean() + 0.02) / error, 4)
        high = scipy_stats.t.cdf((x.mean() - 0.02) / error, 4)
        assert p == pytest.approx(max(low, high), abs=1e-12)
        i = stats.t_interval(x, 0.90)
        assert (p < 0.05) == (i.lo > -0.02 and i.hi < 0.02)


def test_p_values_of_fewer_than_two_seeds_are_1():
    assert stats.p_above([0.5]) == 1
    assert stats.p_equivalent([], 0.02) == 1


def test_p_values_of_identical_seeds_are_certain():
    assert stats.p_above([0.1, 0.1]) == 0
    assert stats.p_above([0.0, 0.0]) == 1
    assert stats.p_equivalent([0.0, 0.0], 0.02) == 0


def test_holm_equals_the_worked_example():
    # Sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, made non-decreasing.
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_slopes_equal_polyfit_per_octave():
    y = np.random.default_rng(3).normal(0.8, 0.05, (4, 7))
    expected = [np.polyfit(np.log2(GRID), row, 1)[0] for row in y]
    assert stats.slopes(y, GRID) == pytest.approx(expected, abs=1e-12)


def test_page_trend_is_small_only_for_a_fall():
    fall = np.array([[0.9, 0.8, 0.7, 0.6]] * 5)
    assert stats.page_trend(fall) < 0.001
    assert stats.page_trend(fall[:, ::-1]) > 0.99


def test_ratio_effects_average_to_the_ratio_of_means():
    assert stats.ratio_effects([1.0, 2.0, 6.0], [2.0, 5.0, 5.0]).mean() == pytest.approx(9 / 12)


def test_ratio_effects_have_the_delta_method_error():
    # R = 2/4; x - R g = -.5, .5 has sd .7071, over the mean denominator 4.
    assert stats.ratio_effects([1.0, 3.0], [3.0, 5.0]).std(ddof=1) == pytest.approx(0.5**0.5 / 4)
    # Seeds that all have the same ratio leave no error, however they differ.
    assert stats.ratio_effects([1.0, 3.0], [2.0, 6.0]).std() == pytest.approx(0.0)


def test_retention_is_1_at_n_1_without_error():
    i = stats.retention([[0.9, 0.7], [0.86, 0.72]], [0.5, 0.5])
    assert (i[0].estimate, i[0].lo, i[0].hi) == pytest.approx((1, 1, 1))
    assert i[1].estimate == pytest.approx(0.21 / 0.38)


def test_tolerance_of_a_straight_fall_is_its_mean_height():
    # rho = 1 - log2(N)/10: mean over 0..6 is .7; .8 is crossed at log2 N = 2.
    rho = 1 - np.log2(GRID) / 10
    t = stats.tolerance([0.5 + 0.4 * rho] * 3, [0.5] * 3, GRID)
    assert t.opt is not None
    assert t.opt.estimate == pytest.approx(0.7)
    assert t.n80 == pytest.approx(4.0)
    assert (t.n80_censored, t.n_max) == (False, 64)


def test_tolerance_weights_octaves_not_cells():
    # N = 1, 2, 64: rho 1, 0, 0: trapezoid 1/2 over 6 octaves = 1/12, where the plain mean says 1/3.
    t = stats.tolerance([[0.9, 0.5, 0.5]] * 2, [0.5] * 2, [1, 2, 64])
    assert t.opt is not None
    assert t.opt.estimate == pytest.approx(1 / 12)


def test_tolerance_censors_n80_and_interpolates_it_on_log2_n():
    kept = stats.tolerance([[0.9, 0.89]] * 2, [0.5] * 2, [1, 16])
    assert (kept.n80, kept.n80_censored) == (16.0, True)
    lost = stats.tolerance([[0.9, 0.7]] * 2, [0.5] * 2, [1, 16])  # .8 at 2/5 of 4 octaves
    assert lost.n80 == pytest.approx(2**1.6)
    assert not lost.n80_censored


def test_tolerance_is_undefined_without_a_clear_gain():
    # Gains .10 and .02: mean .06, half-width 12.7 * .04.
    t = stats.tolerance([[0.6, 0.6], [0.52, 0.5]], [0.5, 0.5], [1, 2])
    assert t.opt is None
    assert t.reason == "no clear gain on-policy"
    assert stats.tolerance([[0.9, 0.9]], [0.5], [1, 2]).reason == "fewer than 2 seeds with every N"
    for n in ([1], [2, 4]):
        t = stats.tolerance([[0.9] * len(n)] * 3, [0.5] * 3, n)
        assert (t.opt, t.reason) == (None, "needs N = 1 and a larger N")


def test_clear_gain_asks_for_twice_the_half_width():
    # n = 2, half-width 12.7062 * |a - b| / 2: mean .26 against 2 * .127 and 2 * .140.
    assert stats.clear_gain([0.25, 0.27])
    assert not stats.clear_gain([0.249, 0.271])
    assert not stats.clear_gain([-0.25, -0.27])
    assert not stats.clear_gain([0.0, 0.0])


@pytest.mark.parametrize("seeds", [3, 5])
def test_tolerance_covers_the_true_value(seeds):
    rng = np.random.default_rng(seeds)
    rho = 1 - 0.4 * np.log2(GRID) / 6  # straight: true OPT .8
    covered = []
    for _ in range(1000):
        y = 0.6 + 0.3 * rho + rng.normal(0, 0.02, (seeds, 7))
        opt = stats.tolerance(y, np.full(seeds, 0.6), GRID).opt
        assert opt is not None
        covered.append(opt.lo <= 0.8 <= opt.hi)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.022)  # 3 standard errors


def test_minimum_detectable_effect_is_found_with_probability_80_percent():
    # By simulation, which knows nothing of the noncentral t distribution.
    rng = np.random.default_rng(11)
    for n in (3, 5, 10):
        made = rng.normal(0.3, 0.05, n)
        effect = stats.minimum_detectable_effect(made)
        x = rng.normal(effect, made.std(ddof=1), (40_000, n))
        found = scipy_stats.ttest_1samp(x, 0.0, axis=1).pvalue < 0.05
        assert found.mean() == pytest.approx(0.8, abs=0.006)  # 3 standard errors


@pytest.mark.parametrize(
    ("n", "standardised"),
    [
        # effect over sd at power .8, as tables of the paired t-test give it
        (5, 1.682),
        (10, 0.996),
        (30, 0.529),
    ],
)
def test_minimum_detectable_effect_has_the_tabulated_values(n, standardised):
    values = np.arange(n, dtype=float)
    effect = stats.minimum_detectable_effect(values)
    assert effect / values.std(ddof=1) == pytest.approx(standardised, abs=6e-4)


def test_minimum_detectable_effect_needs_seeds_that_differ():
    assert math.isnan(stats.minimum_detectable_effect([0.1]))
    assert math.isnan(stats.minimum_detectable_effect([0.1] * 5))
    assert stats.differ([0.0, 1e-6])
    assert not stats.differ([0.1 + 0.2, 0.3])
    assert not stats.differ([])


def test_first_at_interpolates_the_first_crossing_and_never_extrapolates():
    kl, win = [0.0, 2.0, 6.0, 5.0], [0.5, 0.6, 0.8, 0.7]
    found = stats.first_at(kl, win, [0.0, 1.0, 5.0, 6.0, 6.1])
    assert found[:4] == pytest.approx([0.5, 0.55, 0.75, 0.8])  # at 5: on the way up, not back
    assert math.isnan(found[4])
    assert math.isnan(stats.first_at([1.0, 2.0], [0.5, 0.6], [0.5])[0])


def test_held_out_gain_has_the_sign_of_the_true_shape():
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 0.01, (10, 7))
    level = rng.normal(0, 0.05, (10, 1))
    x = np.array(GRID, dtype=float)
    assert stats.held_out_gain(0.9 - 0.02 * np.log2(x) + level + noise, x).mean() > 1
    assert stats.held_out_gain(0.9 - 0.002 * x + level + noise, x).mean() < -1


def test_held_out_gain_equals_a_naive_computation():
    y = np.array([[0.9, 0.85, 0.8], [0.91, 0.84, 0.82], [0.88, 0.86, 0.79]])
    n = np.array([1.0, 2.0, 4.0])
    expected = []
    for s in range(3):
        both = []
        for x in (np.log2(n), n):
            rest = [i for i in range(3) if i != s]
            rows = np.concatenate([y[i] - y[i].mean() for i in rest])
            design = np.tile(x - x.mean(), 2)
            slope = scipy_stats.linregress(design, rows).slope
            sd = math.sqrt(((rows - slope * design) ** 2).sum() / 3)  # 2 seeds x 2 free - 1 slope
            error = ((y[s] - y[s].mean() - slope * (x - x.mean())) ** 2).sum()
            both.append(-2 * math.log(sd * math.sqrt(2 * math.pi)) - error / (2 * sd**2))
        expected.append(both[0] - both[1])
    assert stats.held_out_gain(y, n) == pytest.approx(expected, abs=1e-9)


def test_held_out_gain_of_equally_good_shapes_is_called_positive_at_most_5_percent():
    rng = np.random.default_rng(5)
    x = np.array(GRID, dtype=float)
    between = 0.9 - 0.02 * np.log2(x) / 6 - 0.02 * (x - 1) / 63
    called = [
        stats.t_interval(stats.held_out_gain(between + rng.normal(0, 0.015, (5, 7)), x)).lo > 0
        for _ in range(500)
    ]
    assert np.mean(called) <= 0.05
