"""Stale data of every kind on one axis, optimiser steps, and what losses keep of their gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from plots.analysis import stats
from plots.analysis.estimands import Effects, retention_slopes
from plots.analysis.frames import Record

CELL = ["algorithm", "schedule_kind", "n"]
KEPT = [*CELL, "mean_steps", "max_steps", "kept", "lo", "hi", "seeds"]


def in_steps(final: pd.DataFrame) -> pd.DataFrame:
    """Return runs with the age of what they train on, ``mean_steps`` and ``max_steps``.

    An update is T optimiser steps on one batch, so that its t-th step (from 0) trains on
    completions T s + t steps old, s the measured staleness in updates.

    Args:
        final: columns ``epochs`` (T), ``staleness_mean`` and ``staleness_max``.
    """
    t = final["epochs"]
    return final.assign(
        mean_steps=t * final["staleness_mean"] + (t - 1) / 2,
        max_steps=t * final["staleness_max"] + t - 1,
    )


def stale(final: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that train on stale data."""
    return final[(final["n"] > 1) | (final["schedule_kind"] == "lag")]


def kept(record: Record, y: str = "win_rate") -> pd.DataFrame:
    """Return the share of its on-policy gain that each series keeps, by schedule.

    That is (w - w_SFT) / (w(1) - w_SFT) with w(1) of the series' runs on fresh data, means over the
    seeds that both have, and the delta method's 95% interval.

    Args:
        record: the runs.
        y: the number per run, ``win_rate`` or ``win_rate_area``.

    Returns:
        Columns ``KEPT``, without a series that has no clear gain on fresh data.
    """
    final = in_steps(record.final)
    rows = []
    for name, runs in final.groupby("algorithm", sort=False):
        by_seed = runs.set_index("seed")
        fresh = by_seed[(by_seed["n"] == 1) & (by_seed["schedule_kind"] != "lag")]
        base = fresh[y] - fresh["sft_win_rate"]
        if not stats.clear_gain(base):
            continue
        for (kind, n), cell in by_seed.groupby(["schedule_kind", "n"]):
            gain = (cell[y] - cell["sft_win_rate"]).reindex(base.index).dropna()
            share = stats.t_interval(stats.ratio_effects(gain, base[gain.index]))
            ages = cell["mean_steps"].mean(), cell["max_steps"].max()
            rows.append(
                [name, kind, n, *ages, share.estimate, share.lo, share.hi, share.n],
            )
    return pd.DataFrame(rows, columns=KEPT)


def stale_means(record: Record, y: str) -> pd.DataFrame:
    """Return ``y`` averaged over the stale cells that all series have, as seeds x series."""
    wide = stale(record.final).pivot_table(index="seed", columns=CELL, values=y)
    names = list(dict.fromkeys(wide.columns.get_level_values("algorithm")))
    cells = [set(wide[name].columns) for name in names]
    common = sorted(set.intersection(*cells)) if cells else []
    means = {name: wide[name][common].mean(axis="columns", skipna=False) for name in names}
    return pd.DataFrame(means if common else {}).dropna()


def retention_slope(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return each seed's slope of the retained gain per doubling of N; 0: staleness is free."""
    slopes, found = retention_slopes([(record, algorithms[0])], n, y)
    return Effects(slopes[:, 0], found.seeds, found.levels, found.per_margin)


def earlier_difference(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's mean win rate in the first half of training, first series minus second.

    At one N; the mean is over updates, by the trapezoid rule over evaluations.
    """
    tables = []
    for name in algorithms:
        frame = record.curves[(record.curves["algorithm"] == name) & (record.curves["n"] == n[0])]
        frame = frame[(frame["schedule_kind"] != "lag") & (frame["step"] <= frame["updates"] / 2)]
        tables.append(
            pd.Series({seed: _mean_over_steps(run) for seed, run in frame.groupby("seed")})
        )
    both = pd.concat(tables, axis="columns").dropna()
    differences = (both.iloc[:, 0] - both.iloc[:, 1]).to_numpy()
    return Effects(differences, tuple(both.index), tuple(both.mean()) if len(both) else ())


def _mean_over_steps(run: pd.DataFrame) -> float:
    ordered = run.sort_values("step")
    steps, wins = ordered["step"].to_numpy(), ordered["win_rate"].to_numpy()
    return float(np.trapezoid(wins, steps) / (steps[-1] - steps[0])) if len(run) > 1 else np.nan


def overtaking_per_octave(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return how much each seed's lead of one weight over another grows per doubling of the batch.

    Args:
        record: the runs, under ``lag``.
        algorithms: three series of the first weight and three of the second, batches doubling.
        n: the lag.
        y: the number per run.
    """
    final = record.final[(record.final["schedule_kind"] == "lag") & (record.final["n"] == n[0])]
    table = final.pivot(index="seed", columns="algorithm", values=y)
    table = table.reindex(columns=list(algorithms)).dropna()
    if table.empty:
        return Effects()
    half = len(algorithms) // 2
    lead = table.iloc[:, :half].to_numpy() - table.iloc[:, half:].to_numpy()
    octaves = float(half - 1)
    return Effects(
        stats.slopes(lead, 2 ** np.arange(half)), tuple(table.index), tuple(table.mean()), octaves
    )


def kept_by(record: Record, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return ``kept`` for each outcome, one below the other.

    Args:
        record: the runs.
        columns: of ``record.final``, by the name of the outcome.
    """
    tables = [kept(record, y).assign(outcome=name) for name, y in columns.items()]
    return pd.concat(tables, ignore_index=True)
