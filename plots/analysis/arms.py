"""Arms: runs of one algorithm that a figure tells apart by name, as "T = 2" (column ``arm``).

Effects are as in ``estimands``: one per seed, signed so that the claim predicts a positive one. The
first arm of a claim is what the others are compared with. A seed counts if it has every arm of the
claim at every size of the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from plots.analysis import overlap, stats
from plots.analysis.estimands import Effects
from plots.analysis.frames import Record
from plots.analysis.stats import FloatArray

MATCHED = np.linspace(0.5, 0.9, 5)  # shares of the common gain at which KLs are compared
LEAST_GAIN = 0.06  # over SFT; below it curves have hardly left the point where they all start


def times(steps: pd.DataFrame) -> pd.DataFrame:
    """Return each run's median seconds per update, ``generate_s`` and ``train_s``: score and learn.

    Args:
        steps: columns ``run_id``, ``generate_s``, ``score_s``, ``learn_s``.
    """
    frame = steps.assign(train_s=steps["score_s"] + steps["learn_s"])
    return frame.groupby("run_id")[["generate_s", "train_s"]].median().reset_index()


def update_s(runs: pd.DataFrame) -> pd.Series[float]:
    """Return the seconds per update where generation and training overlap: the longer of the two.

    Args:
        runs: columns ``generate_s`` and ``train_s``, as ``times`` gives them.
    """
    return runs[["generate_s", "train_s"]].max(axis="columns", skipna=False)


def names(record: Record) -> list[str]:
    """Return the record's arms, in the order of their names."""
    return sorted(record.final["arm"].unique())


def summary(record: Record) -> pd.DataFrame:
    """Return a row per model size, algorithm and arm: what it reached, and what its time was.

    The algorithm is left out where there is one. Means over seeds; times are those of ``times``,
    ``run_s`` that of all updates.
    """
    runs = record.final.assign(run_s=record.final["updates"] * update_s(record.final))
    columns = ["updates", "win_rate", "win_rate_area", "kl_nats", "generate_s", "train_s", "run_s"]
    groups = runs.groupby(["model", "algorithm", "arm"])
    table = groups[columns].mean().assign(seeds=groups["seed"].nunique()).reset_index()
    table = table.astype({"updates": int})
    if table["algorithm"].nunique() == 1:
        table = table.drop(columns="algorithm")
    return table.sort_values("model", key=lambda m: m.map(overlap.parameters), kind="stable")


def arm_gain(
    record: Record, algorithms: Sequence[str], arms: Sequence[str], y: str = "win_rate"
) -> Effects:
    """Return each seed's win rate, mean of the other arms minus the first, averaged over sizes."""
    table = _by_arm(record, algorithms[0], arms, y)
    if table.empty:
        return Effects()
    by_arm = table.T.groupby(level="arm").mean().T  # over sizes
    gains = by_arm[list(arms[1:])].mean(axis="columns") - by_arm[arms[0]]
    return Effects(gains.to_numpy(), tuple(table.index), tuple(table.mean()))


def arm_gain_below_largest(
    record: Record, algorithms: Sequence[str], arms: Sequence[str], y: str = "win_rate"
) -> Effects:
    """Return ``arm_gain`` of all sizes but the largest, or of the only size."""
    *smaller, largest = overlap.sizes(record) or [""]
    final = record.final[record.final["model"].isin(smaller or [largest])]
    return arm_gain(replace(record, final=final), algorithms, arms, y)


def kl_at_matched_win_rate(
    record: Record, algorithms: Sequence[str], arms: Sequence[str]
) -> Effects:
    """Return each seed's log-ratio of KL at equal win rate, other arms over the first.

    Per seed and size, W is the highest win rate that all arms reach at some evaluation. KLs are
    compared where each trajectory first has the SFT win rate plus .5, .6, ... .9 of the gain to W,
    and averaged over these. Log-ratios are averaged over the other arms and over sizes.
    """
    seeds = _by_arm(record, algorithms[0], arms, "win_rate").index
    frame = record.curves[record.curves["algorithm"] == algorithms[0]]
    ratios, gains = [], []
    for seed in seeds:
        found = [
            _kl_ratio(frame[(frame["seed"] == seed) & (frame["model"] == size)], arms)
            for size in overlap.sizes(record)
        ]
        ratios.append(np.mean([ratio for ratio, _ in found]))
        gains.append(np.mean([gain for _, gain in found]))
    if not ratios:
        return Effects()
    sound, gain = np.isfinite(ratios), float(np.mean(gains))
    return Effects(
        np.array(ratios)[sound],
        tuple(np.array(seeds)[sound].tolist()),
        note=f"matched up to a gain of {MATCHED[-1] * gain:+.3f}",
        failure="" if gain > LEAST_GAIN else f"all arms together gain only {gain:+.3f} over SFT",
    )


def times_as_fast(record: Record, algorithms: Sequence[str], arms: Sequence[str]) -> Effects:
    """Return each seed's time of all updates, the first arm's over the second's, minus 1.

    Of the largest model, with ``update_s`` per update. It means something where training takes
    longer than generation in the first arm.
    """
    size = (overlap.sizes(record) or [""])[-1]
    runs = record.where(model=size).final
    runs = runs.assign(run_s=runs["updates"] * update_s(runs))
    one = replace(record, final=runs)
    table = _by_arm(one, algorithms[0], arms, "run_s")
    if table.empty:
        return Effects()
    first = runs[(runs["algorithm"] == algorithms[0]) & (runs["arm"] == arms[0])]
    g, t = first["generate_s"].mean(), first["train_s"].mean()
    measured = f"generation {1e3 * g:.0f} ms, training {1e3 * t:.0f} ms per update at {arms[0]}"
    run_s = table.droplevel("model", axis="columns")
    return Effects(
        (run_s[arms[0]] / run_s[arms[1]] - 1).to_numpy(),
        tuple(table.index),
        note=measured,
        failure="" if t > g else f"not training-bound: {measured}",
    )


def _by_arm(record: Record, algorithm: str, arms: Sequence[str], y: str) -> pd.DataFrame:
    """Return ``y`` of the final policies as seeds x (arm, model); only complete seeds are kept."""
    frame = record.final[record.final["algorithm"] == algorithm]
    if frame.empty or "arm" not in frame:
        return pd.DataFrame()
    table = frame.pivot(index="seed", columns=["arm", "model"], values=y)
    wanted = pd.MultiIndex.from_product([arms, overlap.sizes(record)], names=["arm", "model"])
    return table.reindex(columns=wanted).dropna()


def _kl_ratio(runs: pd.DataFrame, arms: Sequence[str]) -> tuple[float, float]:
    """Return the mean log-ratio of one seed and size, and the gain over SFT that all arms reach."""
    paths = [runs[runs["arm"] == arm] for arm in arms]
    start = float(paths[0]["win_rate"].iloc[0])
    gain = min(float(path["win_rate"].max()) for path in paths) - start
    if gain <= 0:
        return float("nan"), gain
    kls: FloatArray = np.array(
        [
            stats.first_at(path["win_rate"], path["kl_nats"], start + gain * MATCHED).mean()
            for path in paths
        ]
    )
    with np.errstate(invalid="ignore", divide="ignore"):  # a KL that is not above 0 has no ratio
        return float(np.log(kls[1:] / kls[0]).mean()), gain
