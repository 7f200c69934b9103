"""Learning rates against lag: up to which rate training is stable, and how that falls with lag."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from plots.analysis import stats
from plots.analysis.estimands import Effects
from plots.analysis.frames import Record
from plots.analysis.stats import FloatArray

STABLE = 0.5  # of the gain that the same seed's best rate has at the same lag


def largest_stable(record: Record, algorithm: str) -> pd.DataFrame:
    """Return the largest stable learning rate of each seed at each lag.

    A rate is stable if the final policy has half of the gain over SFT, or more, that the best rate
    has at the same lag. The largest one is where win rate falls below that beyond the best rate, on
    the line between the two neighbouring rates on a logarithmic axis. If it does not, the largest
    rate that was tried stands in its place: it is a lower bound.

    Returns:
        Columns ``n`` (the lag), ``seed``, ``log2_rate``, ``is_bound``; no row where no rate gains.
    """
    final = record.final[record.final["algorithm"] == algorithm]
    rows = []
    for (n, seed), runs in final.groupby(["n", "seed"]):
        ordered = runs.sort_values("learning_rate")
        gain = (ordered["win_rate"] - ordered["sft_win_rate"]).to_numpy()
        best = int(gain.argmax())
        if gain[best] <= 0:
            continue
        rate, is_bound = _crossing(np.log2(ordered["learning_rate"].to_numpy()), gain, best)
        rows.append({"n": n, "seed": seed, "log2_rate": rate, "is_bound": is_bound})
    return pd.DataFrame(rows, columns=["n", "seed", "log2_rate", "is_bound"])


def _crossing(log2_rates: FloatArray, gain: FloatArray, best: int) -> tuple[float, bool]:
    """Return the rate beyond ``best`` at which the gain falls to its stable share, if it does."""
    least = STABLE * gain[best]
    for i in range(best + 1, len(gain)):
        if gain[i] < least:
            share = (gain[i - 1] - least) / (gain[i - 1] - gain[i])
            return float(log2_rates[i - 1] + share * (log2_rates[i] - log2_rates[i - 1])), False
    return float(log2_rates[-1]), True


def fall_of_stable_rate(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return by how many octaves each seed's largest stable rate falls per doubling of the lag."""
    del y
    found = largest_stable(record, algorithms[0])
    table = found.pivot(index="seed", columns="n", values="log2_rate")
    table = table.reindex(columns=list(n)).dropna()
    if table.empty:
        return Effects()
    counted = found[found["n"].isin(n) & found["seed"].isin(table.index)]
    bounds = int(counted["is_bound"].sum())
    note = f"{bounds} of {len(counted)} stable rates are lower bounds" if bounds else ""
    return Effects(
        -stats.slopes(table, n),
        tuple(table.index),
        note=note,
        failure=f"too few unstable rates: {note}" if bounds > len(counted) / 4 else "",
    )


def short_of_inverse(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return ``fall_of_stable_rate`` minus 1: 0 where stable rate times lag is constant."""
    found = fall_of_stable_rate(record, algorithms, n, y)
    return Effects(found.values - 1, found.seeds, note=found.note, failure=found.failure)
