"""Time to target: after how many updates a run has a win rate."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from plots.analysis import stats
from plots.analysis.frames import Record


def updates_to(updates: ArrayLike, win_rates: ArrayLike, target: float) -> float:
    """Return after how many updates a run first has a win rate; NaN if it never does.

    Linear between evaluations. NaN says only that it takes more than the last of ``updates``: the
    number is censored there.

    Args:
        updates: [E] done at each evaluation, ascending.
        win_rates: [E] found.
        target: the win rate.
    """
    x, y = np.asarray(updates, dtype=np.float64), np.asarray(win_rates, dtype=np.float64)
    if len(y) and y[0] >= target:
        return float(x[0])
    return float(stats.first_at(y, x, [target])[0])


def updates_to_target(record: Record, target: float | None = None) -> pd.DataFrame:
    """Return the time to target of each run.

    Args:
        record: the runs.
        target: a win rate; None: half of the best gain on fresh data: the run's SFT win rate and
            half of the largest mean gain over it that an algorithm has at N = 1.

    Returns:
        One row per run: ``run_id``, ``algorithm``, ``n``, ``seed``, ``target``, ``updates`` to it
        and ``last``. Where ``updates`` is NaN, the run ended or diverged after ``last`` updates
        without it. Empty where half of the gain is asked for and there is none at N = 1.
    """
    keys = ["run_id", "algorithm", "n", "seed"]
    curves, rows = record.curves, []
    gain = best_gain(record) if target is None else 0.0
    steps, wins = curves["step"].to_numpy(), curves["win_rate"].to_numpy()
    # A data frame for each run would take seconds where there are ten thousand.
    for at in curves.groupby("run_id", sort=False).indices.values():
        aim = target
        if aim is None and gain > 0:
            aim = float(wins[at[0]]) + gain / 2
        if aim is not None:
            rows.append([at[0], aim, updates_to(steps[at], wins[at], aim), int(steps[at[-1]])])
    found = pd.DataFrame(rows, columns=["first", "target", "updates", "last"])
    first = curves[keys].iloc[found.pop("first").astype(int)].reset_index(drop=True)
    return pd.concat([first, found], axis="columns")


def best_gain(record: Record) -> float:
    """Return the largest mean gain over SFT of an algorithm at N = 1; NaN where there is none."""
    fresh = record.final[record.final["n"] == 1]
    gains = (fresh["win_rate"] - fresh["sft_win_rate"]).groupby(fresh["algorithm"]).mean()
    return float(gains.max())


def median_text(updates: ArrayLike, last: int) -> str:
    """Return the median over seeds as text: "> 128" where half of the seeds or more are censored.

    Args:
        updates: [S] of ``updates_to``.
        last: where they are censored.
    """
    x = np.asarray(updates, dtype=np.float64)
    median = float(np.median(np.where(np.isnan(x), math.inf, x)))
    reached = int(np.isfinite(x).sum())
    text = f"> {last}" if math.isinf(median) else f"{median:.0f}"
    return text if reached == len(x) else f"{text} ({reached} of {len(x)})"
