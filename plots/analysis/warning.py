"""What moves in training before the win rate falls: diagnostics early on, across N.

A record has the means of diagnostics over the first quarter of training as columns of ``final``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from plots.analysis import stats
from plots.analysis.estimands import Effects
from plots.analysis.frames import Record
from plots.analysis.stats import FloatArray

FALLEN = 0.8  # of what it is at N = 1
SIGNS = ("positive", "negative")
# Name -> columns of ``steps``; of several the mean.
QUANTITIES = {
    "ESS/B": ("ess_fraction",),
    "M2 (nats²)": ("log_ratio_square_mean",),
    "k1 (nats)": ("kl_k1_nats",),
    "k3 (nats)": ("kl_k3_nats",),
    "largest |log-ratio|": ("log_ratio_max_nats",),
    "share clipped": tuple(f"clip_fraction_{sign}" for sign in SIGNS),
    "share masked": tuple(f"mask_fraction_{sign}" for sign in SIGNS),
    "entropy (nats)": ("entropy_nats",),
    "gradient cosine": ("gradient_cosine",),
    "length (tokens)": ("length_mean_tokens",),
}
COLUMNS = tuple(column for columns in QUANTITIES.values() for column in columns)


def early(record: Record) -> Record:
    """Return the record with a column per quantity: its mean over the first quarter of training."""
    means = {name: record.final[list(of)].mean(axis="columns") for name, of in QUANTITIES.items()}
    return replace(record, final=record.final.assign(**means))


def first_moved(table: pd.DataFrame) -> int | None:
    """Return the smallest N from which on every N differs from N = 1 beyond chance.

    That is: the 95% t-interval of the difference, paired by seed, does not include 0.

    Args:
        table: seeds x N, the first column N = 1.

    Returns:
        None where the largest N does not differ.
    """
    found = None
    for n in reversed(table.columns[1:]):
        difference = table[n] - table[table.columns[0]]
        interval = stats.t_interval(difference)
        if not (interval.lo > 0 or interval.hi < 0):
            break
        found = int(n)
    return found


def table(record: Record) -> pd.DataFrame:
    """Return by algorithm and quantity where it moves, beside where the final win rate does.

    Columns ``algorithm``, ``quantity``, its mean at N = 1 (``fresh``) and at the largest N
    (``stalest``), ``moves_at`` and ``win_rate_moves_at``, see ``first_moved``, and how many
    doublings of N the one is ``octaves_before`` the other. Where the win rate does not move it
    counts as one beyond the largest N.
    """
    record = early(record)
    rows = []
    for name in record.final["algorithm"].unique():
        n = record.n_values(name)
        wins = record.by_n(name, n)
        falls = first_moved(wins)
        for quantity in QUANTITIES:
            values = record.by_n(name, n, quantity)
            if values.empty:
                continue
            moves = first_moved(values)
            before = math.nan if moves is None else math.log2((falls or 2 * n[-1]) / moves)
            rows.append(
                {
                    "algorithm": name,
                    "quantity": quantity,
                    "fresh": values[n[0]].mean(),
                    "stalest": values[n[-1]].mean(),
                    "moves_at": str(moves or "-"),
                    "win_rate_moves_at": str(falls or f"> {n[-1]}"),
                    "octaves_before": before,
                    "seeds": len(values),
                }
            )
    return pd.DataFrame(rows)


def octaves_before_win_rate(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return by how many doublings of N each seed's ESS/B falls before its win rate does.

    ESS/B of the first quarter of training has fallen where it is below 0.8 of that at N = 1, the
    final win rate where it keeps less than 0.8 of the mean gain at N = 1; both first, and linear in
    log2 N. What never falls counts at the largest N. Invalid where neither does in more than a
    quarter of the seeds.
    """
    name = algorithms[0]
    if "ess_fraction" not in record.final:
        return Effects()
    ess = record.by_n(name, n, "ess_fraction")
    wins = record.by_n(name, n).reindex(ess.index).dropna()
    if wins.empty:
        return Effects()
    ess = ess.loc[wins.index]
    sft = record.by_n(name, n[:1], "sft_win_rate").loc[wins.index, n[0]]
    gains = wins.sub(sft, axis="index")
    shares = gains.to_numpy() / gains[n[0]].mean()
    sizes = ess.to_numpy() / ess[[n[0]]].to_numpy()
    falls = np.array([_first_below(row, n) for row in shares])
    warned = np.array([_first_below(row, n) for row in sizes])
    last = math.log2(n[-1])
    never, silent = falls >= last, (falls >= last) & (warned >= last)
    return Effects(
        falls - warned,
        tuple(wins.index),
        note=f"the win rate never falls in {never.sum()} of {len(never)} seeds" * bool(never.any()),
        failure="neither falls" if silent.mean() > 0.25 else "",
    )


def _first_below(shares: FloatArray, n: Sequence[int]) -> float:
    """Return log2 of the N at which shares first fall below ``FALLEN``; the last N if never."""
    x = np.log2(n)
    if shares[0] < FALLEN:
        return float(x[0])
    at = stats.first_at(-shares, x, [-FALLEN])[0]
    return float(x[-1] if np.isnan(at) else at)


def cosine_rise_per_octave(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's slope of the early gradient cosine per doubling of N."""
    if "gradient_cosine" not in record.final:
        return Effects()
    values = record.by_n(algorithms[0], n, "gradient_cosine")
    if values.empty:
        return Effects()
    return Effects(stats.slopes(values, n), tuple(values.index))
