"""Sweeps over the size of the policy or of its reward model, and what claims ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from plots.analysis import estimands, overlap, stats
from plots.analysis.estimands import Effects
from plots.analysis.frames import Record

Swept = Literal["model", "reward_model"]  # columns of the record: the policy's size, the other's
SWEPT: tuple[Swept, ...] = get_args(Swept)


def sweep(record: Record, swept: Swept) -> Record:
    """Return the runs that differ in one model's size, where the other model has one size.

    The other's size is the one that was run with the most sizes, of equals the smallest.
    """
    fixed = "model" if swept == "reward_model" else "reward_model"
    counts = record.final.groupby(fixed)[swept].nunique()
    most = counts.index[counts == counts.max()]
    return record.where(**{fixed: min(most, key=overlap.parameters)}) if len(most) else record


def arms(record: Record, swept: Swept) -> dict[str, Record]:
    """Return the record of each size of a sweep, smallest first."""
    found = sweep(record, swept)
    order = sorted(found.final[swept].unique(), key=overlap.parameters)
    return {str(size): found.where(**{swept: size}) for size in order}


def policy_size_interaction(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return each seed's interaction of policy size and log2 N on the retained gain.

    A size has a slope of retained gain per doubling of N (``estimands.retention_slopes``). The
    effect is the least-squares slope of these on log2 of the size, times the doublings from the
    smallest size to the largest. Above 0, larger models lose less.
    """
    return _interaction(record, "model", algorithms[0], n, y)


def reward_size_interaction(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return ``policy_size_interaction`` of the reward model's size, the policy's fixed."""
    return _interaction(record, "reward_model", algorithms[0], n, y)


def reward_size_at_matched_kl(
    record: Record, algorithms: Sequence[str], n: Sequence[int]
) -> Effects:
    """Return each seed's change of win rate at matched KL, smallest reward model to largest.

    At the first N; see ``estimands.at_matched_kl``. Above 0, a larger reward model buys more.
    """
    sizes = arms(record.where(algorithm=algorithms[0], n=n[0]), "reward_model")
    if len(sizes) < 2:
        return Effects()
    tables = [arm.by_n(algorithms[0], n[:1]) for arm in sizes.values()]
    seeds = sorted(set.intersection(*(set(table.index) for table in tables)))
    curves = [arm.curves for arm in sizes.values()]
    return estimands.at_matched_kl(curves, seeds, _parameters(sizes), f"{next(iter(sizes))}")


def _interaction(record: Record, swept: Swept, algorithm: str, n: Sequence[int], y: str) -> Effects:
    sizes = arms(record.where(algorithm=algorithm), swept)
    if len(sizes) < 2:
        return Effects()
    slopes, found = estimands.retention_slopes([(arm, algorithm) for arm in sizes.values()], n, y)
    if not found.seeds:
        return found
    x = _parameters(sizes)
    return replace(found, values=stats.slopes(slopes, x) * np.log2(x[-1] / x[0]))


def _parameters(sizes: dict[str, Record]) -> list[float]:
    return [overlap.parameters(size) for size in sizes]
