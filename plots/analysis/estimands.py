"""What a claim measures: one function per estimand, from a record to one effect per seed.

Every effect is signed so that the claim predicts a value above zero (for equivalence claims: near
zero). Effects are paired: a seed counts only if it has every run the estimand needs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from plots.analysis import overlap, stats
from plots.analysis.frames import Record
from plots.analysis.stats import FloatArray


@dataclass(frozen=True)
class Effects:
    """Per-seed effects [S], a note on them, and the reason if they mean nothing."""

    values: FloatArray
    note: str = ""
    failure: str = ""


Estimand = Callable[[Record, Sequence[str], Sequence[int]], Effects]


def fall_per_octave(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return minus each seed's slope of the final win rate per doubling of N."""
    table = record.by_n(algorithms[0], n)
    values = -stats.slopes(table, n)
    if min(table.shape) < 2 or table.shape[1] < 3:  # Page's test needs three columns
        return Effects(values)
    return Effects(values, f"Page's trend test as a check: p = {stats.page_trend(table):.2g}")


def difference_between_n(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's final win rate at the first N minus that at the second."""
    table = record.by_n(algorithms[0], n)
    return Effects((table[n[0]] - table[n[1]]).to_numpy())


def logarithmic_over_linear(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return how much better log2 N than N predicts each left-out seed's win rates, in nats."""
    table = record.by_n(algorithms[0], n)
    return Effects(stats.held_out_gain(table, n) if len(table) > 2 else np.empty(0))


def change_at_matched_kl(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's change of win rate at matched KL from the smallest N to the largest.

    Per seed, five KLs are compared, evenly from half to all of the largest KL that its runs reach
    at every N. Near zero KL all curves meet by construction. The win rate at a KL is where
    the trajectory first reaches it. The change is the slope per doubling of N times the doublings.
    """
    frame = record.curves
    frame = frame[(frame["algorithm"] == algorithms[0]) & (frame["schedule_kind"] != "lag")]
    levels, gains, reached = [], [], []
    for seed in record.by_n(algorithms[0], n).index:
        runs = [frame[(frame["seed"] == seed) & (frame["n"] == value)] for value in n]
        common = min(run["kl_nats"].max() for run in runs)
        targets = np.linspace(0.5, 1.0, 5) * common
        levels.append([_mean_win_rate_at(run, targets) for run in runs])
        gains.append(levels[-1][0] - runs[0]["win_rate"].iloc[0])
        reached.append(common)
    if not levels:
        return Effects(np.empty(0))
    changes = stats.slopes(levels, n) * np.log2(n[-1] / n[0])
    gain = float(np.mean(gains))
    failure = "" if gain > 0.06 else f"curves overlap only where N = {n[0]} gains {gain:+.3f}"
    return Effects(
        changes[np.isfinite(changes)],
        f"KL matched up to {np.mean(reached):.1f} nats, where N = {n[0]} gains {gain:+.3f}",
        failure,
    )


def _mean_win_rate_at(run: pd.DataFrame, targets: FloatArray) -> float:
    return float(stats.win_rate_at_kl(run["kl_nats"], run["win_rate"], targets).mean())


def difference_on_policy(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's final win rate of the first algorithm minus the second's, at N = 1."""
    first, second = (record.by_n(name, n)[n[0]] for name in algorithms)
    return Effects((first - second).dropna().to_numpy())


def retention_slope_difference(
    record: Record, algorithms: Sequence[str], n: Sequence[int]
) -> Effects:
    """Return the first algorithm's slope of retained gain per doubling of N minus the second's.

    The retained gain is (w(N) - w_SFT) / (w(1) - w_SFT) with the denominator averaged over seeds;
    per-seed values are linearised (``stats.ratio_effects``), so their t-interval is the
    delta-method interval.
    """
    tables = [record.by_n(name, n) for name in algorithms]
    seeds = sorted(set(tables[0].index) & set(tables[1].index))
    if not seeds:
        return Effects(np.empty(0))
    slopes = []
    for name, table in zip(algorithms, tables, strict=True):
        sft = record.by_n(name, n[:1], "sft_win_rate").loc[seeds, n[0]]
        wins = table.loc[seeds]
        slopes.append(stats.ratio_effects(stats.slopes(wins, n), wins[n[0]] - sft))
    return Effects(slopes[0] - slopes[1])


def overlapped_minus_split(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's final win rate, overlapped minus synchronous, averaged over sizes."""
    del n
    final = record.final[record.final["algorithm"] == algorithms[0]]
    table = final.pivot(index=["model", "seed"], columns="timed", values="win_rate")
    if not {"overlapped", "split"} <= set(table.columns):
        return Effects(np.empty(0))
    difference = (table["overlapped"] - table["split"]).unstack("model").dropna()
    return Effects(difference.mean(axis="columns").to_numpy())


def speed_up(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's time per update, synchronous over overlapped, minus 1; largest model."""
    del n
    table = overlap.arms(record, algorithms[0])
    if table.empty:
        return Effects(np.empty(0))
    gains = overlap.gains(table)
    note = (
        f"ideal {gains['ideal'].mean() - 1:+.2f}; against all cores "
        f"{gains['speed_up_whole'].mean() - 1:+.2f}"
    )
    return Effects((gains["speed_up"] - 1).to_numpy(), note)


def speed_up_per_size(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's rise of the speed-up from the smallest to the largest model."""
    del n
    sizes = overlap.sizes(record)
    tables = [overlap.arms(record, algorithms[0], size) for size in (*sizes[:1], *sizes[-1:])]
    if len(sizes) < 2 or any(table.empty for table in tables):
        return Effects(np.empty(0))
    small, large = (overlap.gains(table)["speed_up"] for table in tables)
    return Effects((large - small).dropna().to_numpy())


def short_of_ideal(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's share of the possible saving that is not made; largest model."""
    del n
    table = overlap.arms(record, algorithms[0])
    if table.empty:
        return Effects(np.empty(0))
    lost = (1e3 * overlap.losses(table).mean()).round() + 0.0  # no minus zero
    note = ", ".join(f"{name.replace('_', '-')} {lost[name]:+.0f} ms" for name in lost.index)
    return Effects((1 - overlap.gains(table)["efficiency"]).to_numpy(), f"lost per update: {note}")


def engine_gain(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each round's speed of vLLM over that of transformers, minus 1; largest model."""
    del algorithms, n
    ratios = _engine_ratios(record.throughput)
    return Effects(ratios[-1] - 1 if len(ratios) else np.empty(0), OVER_ROUNDS)


def engine_gain_per_size(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each round's rise of the same ratio from the smallest model to the largest."""
    del algorithms, n
    ratios = _engine_ratios(record.throughput)
    return Effects(ratios[-1] - ratios[0] if len(ratios) > 1 else np.empty(0), OVER_ROUNDS)


OVER_ROUNDS = "the interval is over rounds on one machine, not over seeds"


def _engine_ratios(frame: pd.DataFrame) -> list[FloatArray]:
    """Return transformers' time over vLLM's, by round, per model that both serve, smallest first.

    In every round both generate the same number of tokens, one after the other. Of the batch sizes
    the largest counts.
    """
    if frame.empty:
        return []
    rows = frame[(frame["benchmark"] == "generation") & (frame["rows"] == frame["rows"].max())]
    times = rows.pivot(index="model", columns="series", values="rounds_s")
    both = times.reindex(columns=["transformers_generate", "vllm"]).dropna()
    both = both.sort_index(key=lambda models: models.map(overlap.parameters))
    return [np.divide(library, engine) for library, engine in both.to_numpy()]


ESTIMANDS: dict[str, Estimand] = {
    f.__name__: f
    for f in (
        fall_per_octave,
        difference_between_n,
        logarithmic_over_linear,
        change_at_matched_kl,
        difference_on_policy,
        retention_slope_difference,
        overlapped_minus_split,
        speed_up,
        speed_up_per_size,
        short_of_ideal,
        engine_gain,
        engine_gain_per_size,
    )
}


def failed_checks(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> list[str]:
    """Return why the record cannot judge a claim: staleness not as scheduled, nothing learned."""
    failures = []
    runs = record.final
    runs = runs[runs["algorithm"].isin(algorithms) & runs["n"].isin(n)]
    wrong = sorted(set(runs["run_id"]) & record.off_schedule)
    if wrong:
        failures.append(f"staleness not as scheduled in {len(wrong)} runs, first {wrong[0]}")
    sizes = overlap.sizes(record)
    for name, size in itertools.product(algorithms, sizes):
        one = record.where(model=size)
        gains = one.by_n(name, [1]) - one.by_n(name, [1], "sft_win_rate")
        if not stats.clear_gain(gains[1]):
            where = f", model {size}" if len(sizes) > 1 else ""
            failures.append(f"{name} shows no clear gain over SFT at N = 1{where}")
    return failures
