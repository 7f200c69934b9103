"""What closes a verdict: runs that are not what they should be, and win rates at their bound."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from plots.analysis import stats
from plots.analysis.estimands import Effects
from plots.analysis.frames import Record

SIZES = ["model", "reward_model"]  # each pair is an arm
AT_BOUND = 0.01  # as near to a bound is saturated whatever the margin: 5 of 512 prompts


def failed_checks(
    record: Record,
    algorithms: Sequence[str],
    n: Sequence[int],
    arms: Sequence[str] = (),
    *,
    gain_at_end: bool = True,
) -> list[str]:
    """Return why the record cannot judge a claim: staleness not as scheduled, nothing learned.

    Args:
        record: the runs.
        algorithms: of the claim.
        n: of the claim.
        arms: of the claim. Something must be learned in the first of them, or else at N = 1.
        gain_at_end: whether final policies must be better than SFT there.
    """
    failures = []
    runs = record.final
    judged = runs["algorithm"].isin(algorithms) & runs["n"].isin(n)
    wrong = sorted(set(runs.loc[judged, "run_id"]) & record.off_schedule)
    if wrong:
        failures.append(f"staleness not as scheduled in {len(wrong)} runs, first {wrong[0]}")
    # Of final policies alone: there are ten times as many evaluations.
    finals = replace(record, curves=pd.DataFrame(), updates=pd.DataFrame(), spans=pd.DataFrame())
    for name in algorithms if gain_at_end else ():
        for where, one in _arms(finals.where(algorithm=name)):
            if arms:
                first = one.where(arm=arms[0]).final
                gains = first["win_rate"] - first["sft_win_rate"]
            else:
                gains = (one.by_n(name, [1]) - one.by_n(name, [1], "sft_win_rate"))[1]
            if not stats.clear_gain(gains):
                at = arms[0] if arms else "N = 1"
                failures.append(f"{name} shows no clear gain over SFT at {at}{where}")
    return failures


def _arms(record: Record) -> Iterator[tuple[str, Record]]:
    """Yield the record of each arm, and what it is called among several."""
    final = record.final
    varied = [column for column in SIZES if column in final and final[column].nunique() > 1]
    if not varied:
        yield "", record
        return
    for values in final[varied].drop_duplicates().sort_values(varied).itertuples(index=False):
        arm = dict(zip(varied, values, strict=True))
        where = "".join(f", {name.replace('_', ' ')} {value}" for name, value in arm.items())
        yield where, record.where(**arm)


def saturation(found: Effects, margin: float, ceiling: float | None) -> str:
    """Return how all compared arms are at a bound of the win rate, or "" if they are not.

    Near a bound arms cannot differ by more than what is left to it. They are at it if each arm's
    mean win rate is within the claim's margin of it, in units of win rate, or within ``AT_BOUND``.

    Args:
        found: the effects with the arms' levels.
        margin: of the claim, in the unit of the effects.
        ceiling: the win rate of a perfect policy; None: unknown, then 1 is the bound.
    """
    if not found.levels or any(math.isnan(level) for level in found.levels):
        return ""
    within = max(margin * found.per_margin, AT_BOUND)
    top = 1.0 if ceiling is None else ceiling
    lowest, highest = min(found.levels), max(found.levels)
    if lowest >= top - within:
        return f"all arms are within {within:.3f} of the ceiling {top:.4f}, the lowest {lowest:.4f}"
    if highest <= within:
        return f"all arms are within {within:.3f} of 0, the highest {highest:.4f}"
    return ""
