"""Statistics on per-seed numbers. The seed is the unit; prompts are not replicates.

Shape legend: S seeds, J values of N in ascending order, the first of them 1.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval; ``lo`` and ``hi`` are NaN for a single seed."""

    estimate: float
    lo: float
    hi: float
    n: int  # seeds
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Off-policy tolerance (OPT) and N80 of one algorithm.

    ``opt`` is None where the on-policy gain is not clear of zero; ``reason`` then says so. ``n80``
    is the largest N that keeps 80% of the gain, or a lower bound of it where ``n80_censored``.
    """

    opt: Interval | None
    n80: float
    n80_censored: bool
    n_max: int
    reason: str = ""

    @property
    def n80_text(self) -> str:
        """N80 in words: "12", or "> 64" where that is all that is known; "" without OPT."""
        if self.opt is None:
            return ""
        return f"{'> ' if self.n80_censored else ''}{self.n80:.0f}"


def _t_test(
    values: ArrayLike, mean: float = 0.0, alternative: Literal["two-sided", "greater"] = "two-sided"
) -> Any:
    with warnings.catch_warnings():  # of fewer than two seeds, or of seeds that hardly differ
        warnings.simplefilter("ignore", RuntimeWarning)
        x = np.asarray(values, dtype=np.float64)
        return stats.ttest_1samp(x, mean, alternative=alternative)


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Return the mean of per-seed numbers [S] with Student's t-interval."""
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean()) if len(x) else math.nan
    lo, hi = _t_test(x).confidence_interval(level)
    return Interval(mean, float(lo), float(hi), len(x), level)


def win_rate_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Return the mean of per-seed win rates [S] with a t-interval on the logit scale.

    The interval is that of the mean win rate, carried to logits by the delta method and back, so
    that it stays inside (0, 1).
    """
    plain = t_interval(values, level)
    p = plain.estimate
    if not 0 < p < 1:
        return plain
    half = (plain.hi - p) / (p * (1 - p))
    lo, hi = special.expit(special.logit(p) + np.array([-half, half]))
    return Interval(p, float(lo), float(hi), plain.n, level)


def p_above(values: ArrayLike, bound: float = 0.0) -> float:
    """Return twice the one-sided p-value of mean > ``bound``, at most 1.

    Doubled, so that p < 0.05 exactly when the 95% t-interval lies wholly above the bound.
    """
    return min(1.0, 2 * _one_sided(values, bound))


def _one_sided(values: ArrayLike, bound: float) -> float:
    p = float(_t_test(values, bound, "greater").pvalue)
    return 1.0 if math.isnan(p) else p  # fewer than two seeds, or all of them on the bound


def p_equivalent(values: ArrayLike, margin: float) -> float:
    """Return the p-value of |mean| < ``margin`` by two one-sided tests (TOST).

    p < 0.05 exactly when the 90% t-interval lies wholly inside the margins. A large p-value of a
    difference is never used as evidence of equality.
    """
    x = np.asarray(values, dtype=np.float64)
    return max(_one_sided(x, -margin), _one_sided(-x, -margin))


def minimum_detectable_effect(values: ArrayLike) -> float:
    """Return the smallest true mean that a t-test would find with probability 0.8.

    The test is two-sided at 0.05, of n seeds whose true spread is the observed one, sd. The result
    is delta sd / sqrt(n), where delta solves P(T' > t) = 0.8 for T' of the noncentral t
    distribution with n - 1 degrees of freedom and noncentrality delta, and t is the test's critical
    value. The tail of the wrong sign has less than 1e-6 of probability. NaN for fewer than two
    seeds and for seeds that do not differ.

    Args:
        values: [S] per-seed numbers, paired differences for instance.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2 or not differ(x):
        return math.nan
    return float(_noncentrality(len(x)) * x.std(ddof=1) / math.sqrt(len(x)))


@cache
def _noncentrality(n: int) -> float:
    """Return delta of ``minimum_detectable_effect`` for n seeds; it is below 1.5 t for every n."""
    t = stats.t.ppf(0.975, n - 1)
    return float(optimize.brentq(lambda d: stats.nct.sf(t, n - 1, d) - 0.8, 0.0, 1.5 * t))


def differ(values: ArrayLike) -> bool:
    """Return whether per-seed numbers differ by more than rounding; if not, no test of them is."""
    x = np.asarray(values, dtype=np.float64)
    return bool(len(x) > 0 and np.ptp(x) > 1e-12 * max(1.0, np.abs(x).max()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    raised = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    adjusted = np.empty(len(p_values))
    adjusted[order] = raised
    return [float(p) for p in adjusted]


def slopes(values: ArrayLike, n: ArrayLike) -> FloatArray:
    """Return each seed's least-squares slope [S] of ``values`` [S, J] per doubling of N."""
    y = np.asarray(values, dtype=np.float64)
    moments = (np.cov(np.log2(n), row, bias=True) for row in y)  # [[xx, xy], [xy, yy]]
    return np.array([xy / xx for (xx, xy), _ in moments])


def page_trend(values: ArrayLike) -> float:
    """Return the p-value of Page's test that ``values`` [S, J] fall along the columns."""
    return float(stats.page_trend_test(-np.asarray(values, dtype=np.float64)).pvalue)


def ratio_effects(numerator: ArrayLike, denominator: ArrayLike) -> FloatArray:
    """Return per-seed numbers [S] whose mean is ``mean(numerator) / mean(denominator)``.

    They are the ratio plus each seed's linearised influence on it, so that their t-interval is the
    delta-method interval of the ratio of means. No seed is divided by its own noisy denominator.
    Not finite where the mean denominator is 0, as of runs that all diverged.
    """
    x, g = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = x.mean() / g.mean()
        return np.asarray(ratio + (x - ratio * g) / g.mean())


def clear_gain(gains: ArrayLike) -> bool:
    """Return whether the mean per-seed gain is above 0 by twice its interval's half-width."""
    interval = t_interval(gains)
    half_width = interval.hi - interval.estimate
    return bool(interval.estimate > 0 and interval.estimate >= 2 * half_width)


def retention(win_rates: ArrayLike, sft: ArrayLike) -> list[Interval]:
    """Return the share of the on-policy gain kept at each N: (w(N) - w_SFT) / (w(1) - w_SFT).

    Args:
        win_rates: [S, J], first column N = 1.
        sft: [S] win rates before training.
    """
    gains = np.asarray(win_rates, dtype=np.float64) - np.asarray(sft, dtype=np.float64)[:, None]
    return [t_interval(ratio_effects(column, gains[:, 0])) for column in gains.T]


def tolerance(win_rates: ArrayLike, sft: ArrayLike, n: Sequence[int]) -> Tolerance:
    """Return OPT, the mean of the retained gain over log2 N (trapezoid), and N80.

    OPT is 1 if staleness costs nothing and 0 if no gain over SFT is left.
    It depends on the largest N; values for different largest N do not compare.

    Args:
        win_rates: [S, J], first column N = 1.
        sft: [S] win rates before training.
        n: [J] ascending.
    """
    y, base = np.asarray(win_rates, dtype=np.float64), np.asarray(sft, dtype=np.float64)
    gains = y - base[:, None]
    reason = ""
    if len(n) < 2 or n[0] != 1:
        reason = "needs N = 1 and a larger N"
    elif len(gains) < 2:
        reason = "fewer than 2 seeds with every N"
    elif not clear_gain(gains[:, 0]):
        reason = "no clear gain on-policy"
    if reason:
        return Tolerance(None, float("nan"), False, n[-1], reason)
    x = np.log2(np.asarray(n, dtype=np.float64))
    area = np.trapezoid(gains, x, axis=1) / (x[-1] - x[0])
    opt = t_interval(ratio_effects(area, gains[:, 0]))
    rho = np.array([interval.estimate for interval in retention(y, base)])
    last = int(np.flatnonzero(rho >= 0.8)[-1])
    if last == len(n) - 1:
        return Tolerance(opt, float(n[-1]), True, n[-1])
    crossing = x[last] + (rho[last] - 0.8) / (rho[last] - rho[last + 1]) * (x[last + 1] - x[last])
    return Tolerance(opt, float(2**crossing), False, n[-1])


def first_at(x: ArrayLike, y: ArrayLike, targets: ArrayLike) -> FloatArray:
    """Return a trajectory's ``y`` where its ``x`` first reaches each target; NaN where never.

    Linear between evaluations, never beyond the first and the last. Both are in training order; x,
    a KL for instance, may fall again.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    found = np.full(len(np.atleast_1d(np.asarray(targets))), np.nan)
    for i, target in enumerate(np.atleast_1d(np.asarray(targets, dtype=np.float64))):
        reached = np.flatnonzero(x >= target)
        if len(reached) and (x[0] <= target):
            j = int(reached[0])
            share = 0.0 if j == 0 else (target - x[j - 1]) / (x[j] - x[j - 1])
            found[i] = y[j] if j == 0 else y[j - 1] + share * (y[j] - y[j - 1])
    return found


def held_out_gain(values: ArrayLike, n: ArrayLike) -> FloatArray:
    """Return how much better log2 N than N predicts each left-out seed [S], in nats per seed.

    For each seed, ``values`` [S, J] of the others are fitted by a line in log2 N and by a line in
    N, Gaussian errors, every seed with its own level; the result is the difference of the left-out
    seed's log-likelihoods (level removed). Positive where the fall is logarithmic.
    """
    y, grid = np.asarray(values, dtype=np.float64), np.asarray(n, dtype=np.float64)
    centred = y - y.mean(axis=1, keepdims=True)
    gain = np.zeros(len(y))
    for sign, x in ((1, np.log2(grid)), (-1, grid)):
        x = x - x.mean()
        for seed in range(len(y)):
            train = np.delete(centred, seed, axis=0)
            slope = train.mean(axis=0) @ x / (x @ x)
            freedom = len(train) * (len(x) - 1) - 1
            variance = ((train - slope * x) ** 2).sum() / freedom
            error = ((centred[seed] - slope * x) ** 2).sum()
            gain[seed] += sign * (
                -(len(x) - 1) / 2 * np.log(2 * np.pi * variance) - error / (2 * variance)
            )
    return gain
