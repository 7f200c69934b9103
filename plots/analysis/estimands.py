"""What a claim on win rates measures: functions from a record to one effect per seed.

Every effect is signed so that the claim predicts a value above zero (for equivalence claims: near
zero). Effects are paired: a seed counts only if it has every run the estimand needs. ``y`` is the
number per run: ``win_rate``, the final one, or ``win_rate_area``, its mean over training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from plots.analysis import stats
from plots.analysis.frames import Record
from plots.analysis.stats import FloatArray


@dataclass(frozen=True)
class Effects:
    """Per-seed effects, and what is needed to judge whether they mean anything.

    Attributes:
        values: [S] one effect per seed.
        seeds: [S] their numbers; of repeated measurements, the rounds'.
        levels: [J] the compared arms' mean win rates; empty for effects that are no win rates.
        per_margin: what a margin of 1 is as a difference of win rates.
        note: shown beside the verdict.
        failure: why the effects mean nothing, if they do not.
    """

    values: FloatArray = field(default_factory=lambda: np.empty(0))
    seeds: tuple[int, ...] = ()
    levels: tuple[float, ...] = ()
    per_margin: float = 1.0
    note: str = ""
    failure: str = ""


def _over_n(table: pd.DataFrame, values: FloatArray, per_margin: float = 1.0) -> Effects:
    """Return effects of a table of seeds x N."""
    levels = tuple(table.mean()) if len(table) else ()
    return Effects(values, tuple(table.index), levels, per_margin)


def fall_per_octave(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return minus each seed's slope of the win rate per doubling of N."""
    table = record.by_n(algorithms[0], n, y)
    found = _over_n(table, -stats.slopes(table, n), float(np.log2(n[-1] / n[0])))
    if min(table.shape) < 2 or table.shape[1] < 3:  # Page's test needs three columns
        return found
    page = stats.page_trend(table)
    return replace(found, note=f"Page's trend test as a check: p = {page:.2g}")


def difference_between_n(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return each seed's win rate at the first N minus that at the second."""
    table = record.by_n(algorithms[0], n, y)
    return _over_n(table, (table[n[0]] - table[n[1]]).to_numpy())


def logarithmic_over_linear(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return how much better log2 N than N predicts each left-out seed's win rates, in nats."""
    table = record.by_n(algorithms[0], n, y)
    if len(table) < 3:
        return Effects()
    return _over_n(table, stats.held_out_gain(table, n), 0.0)


def change_at_matched_kl(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's change of win rate at matched KL from the smallest N to the largest.

    The change is the slope per doubling of N times the doublings. See ``at_matched_kl``.
    """
    frame = record.curves
    frame = frame[(frame["algorithm"] == algorithms[0]) & (frame["schedule_kind"] != "lag")]
    arms = [frame[frame["n"] == value] for value in n]
    return at_matched_kl(arms, list(record.by_n(algorithms[0], n).index), n, f"N = {n[0]}")


def at_matched_kl(
    arms: Sequence[pd.DataFrame], seeds: Sequence[int], x: Sequence[float], first: str
) -> Effects:
    """Return each seed's change of win rate at matched KL from the first arm to the last.

    Per seed, five KLs are compared, evenly from half to all of the largest KL that its runs reach
    in every arm. Near zero KL all curves meet by construction. The win rate at a KL is where
    the trajectory first reaches it. The change is the slope per doubling of ``x`` times the
    doublings.

    Args:
        arms: [A] rows of ``Record.curves``, one run per seed.
        seeds: [S] those that have a run in every arm.
        x: [A] what the arms differ in, ascending.
        first: what the first arm is called.
    """
    levels, gains, reached = [], [], []
    for seed in seeds:
        runs = [arm[arm["seed"] == seed] for arm in arms]
        common = min(run["kl_nats"].max() for run in runs)
        targets = np.linspace(0.5, 1.0, 5) * common
        levels.append([_mean_win_rate_at(run, targets) for run in runs])
        gains.append(levels[-1][0] - runs[0]["win_rate"].iloc[0])
        reached.append(common)
    if not levels:
        return Effects()
    changes = stats.slopes(levels, x) * np.log2(x[-1] / x[0])
    gain = float(np.mean(gains))
    sound = np.isfinite(changes)
    return Effects(
        changes[sound],
        tuple(np.array(seeds)[sound].tolist()),
        tuple(np.nanmean(levels, axis=0)),
        note=f"KL matched up to {np.mean(reached):.1f} nats, where {first} gains {gain:+.3f}",
        failure="" if gain > 0.06 else f"curves overlap only where {first} gains {gain:+.3f}",
    )


def _mean_win_rate_at(run: pd.DataFrame, targets: FloatArray) -> float:
    return float(stats.first_at(run["kl_nats"], run["win_rate"], targets).mean())


def difference_at_n(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return each seed's win rate of the first algorithm minus the second's, at one N."""
    first, second = (record.by_n(name, n, y)[n[0]] for name in algorithms)
    both = pd.concat([first, second], axis="columns", join="inner")
    return _over_n(both, (both.iloc[:, 0] - both.iloc[:, 1]).to_numpy())


def retention_slope_difference(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return the first algorithm's slope of retained gain per doubling of N minus the second's.

    The retained gain is (w(N) - w_SFT) / (w(1) - w_SFT) with the denominator averaged over seeds;
    per-seed values are linearised (``stats.ratio_effects``), so their t-interval is the
    delta-method interval.
    """
    slopes, found = retention_slopes([(record, name) for name in algorithms], n, y)
    return replace(found, values=slopes[:, 0] - slopes[:, 1])


def retention_slopes(
    arms: Sequence[tuple[Record, str]], n: Sequence[int], y: str = "win_rate"
) -> tuple[FloatArray, Effects]:
    """Return the slope of retained gain per doubling of N [S, A], and effects without values.

    Args:
        arms: [A] records of one run per N and seed each, and the algorithm. A seed counts if it
            has every N in every arm.
        n: ascending.
        y: the number per run.
    """
    tables = [record.by_n(name, n, y) for record, name in arms]
    seeds = sorted(set.intersection(*(set(table.index) for table in tables)))
    if not seeds:
        return np.empty((0, len(arms))), Effects()
    slopes, gains = [], []
    for (record, name), table in zip(arms, tables, strict=True):
        sft = record.by_n(name, n[:1], "sft_win_rate").loc[seeds, n[0]]
        wins = table.loc[seeds]
        slopes.append(stats.ratio_effects(stats.slopes(wins, n), wins[n[0]] - sft))
        gains.append(float((wins[n[0]] - sft).mean()))
    every = pd.concat([table.loc[seeds] for table in tables], axis="columns")
    per_margin = float(np.log2(n[-1] / n[0]) * np.mean(gains))
    return np.stack(slopes, axis=1), _over_n(every, np.empty(0), per_margin)


def tolerance(record: Record, algorithm: str, y: str = "win_rate") -> stats.Tolerance:
    """Return an algorithm's off-policy tolerance over all N that it was run at.

    Raises:
        ValueError: the record has several arms.
    """
    n = record.n_values(algorithm) or [1]
    wins = record.by_n(algorithm, n, y)
    sft = record.by_n(algorithm, n, "sft_win_rate")[n[0]].reindex(wins.index)
    return stats.tolerance(wins, sft, n)


def overlapped_minus_split(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return each seed's win rate, overlapped minus synchronous, averaged over sizes."""
    del n
    final = record.final[record.final["algorithm"] == algorithms[0]]
    table = final.pivot(index="seed", columns=["timed", "model"], values=y)
    if not {"overlapped", "split"} <= set(table.columns.get_level_values("timed")):
        return Effects()
    arms = table[["overlapped", "split"]].dropna()
    difference = pd.DataFrame(arms["overlapped"] - arms["split"])
    return _over_n(arms, difference.mean(axis="columns").to_numpy())


def kl_saved_by_overlap(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's log-ratio of the final KL, split over overlapped, averaged over sizes."""
    del n
    frame = record.final[record.final["algorithm"] == algorithms[0]]
    table = frame.pivot(index="seed", columns=["timed", "model"], values="kl_nats")
    if not {"overlapped", "split"} <= set(table.columns.get_level_values("timed")):
        return Effects()
    arms = table[["overlapped", "split"]].dropna()
    arms = arms[(arms > 0).all(axis="columns")]  # a KL that is not above 0 has no ratio
    ratios = pd.DataFrame(np.log(arms["split"] / arms["overlapped"]))
    return Effects(ratios.mean(axis="columns").to_numpy(), tuple(arms.index))
