"""Ablation: how much of the cost of stale data is a smaller learning-rate budget?

The authors' code steps the linear learning-rate decay once per generation round, not once per
update. A larger N then trains at smaller rates (with 256 updates, N = 64 has 25% less rate in total
and none in its last round), which by itself moves a policy less far. PPO and Online DPO are trained
with the rate stepped per update, where N does not change the budget, and per round. At N = 1 both
are the same.

The table gives the effects behind claims C1, C3 and C5 under both schedules, and how much larger
each is when the rate steps per round: what the budget, not the staleness, explains.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from bench.config import LrSchedule
from plots.analysis import registry
from plots.analysis.frames import Record
from plots.analysis.stats import t_interval
from plots.drawing import panels, style
from reproductions.options import Options, mini_batches
from reproductions.reproduction import CLAIMS, Reproduction
from reproductions.run import reproduce

SCHEDULES: tuple[LrSchedule, ...] = ("per_update", "per_round")
EXPLAINED = ("C1-64", "C1-64-area", "C3-64", "C5a-64", "C5a-64-area")


def arm(record: Record, lr_schedule: str) -> Record:
    """Return the runs of one learning-rate schedule; those at N = 1 belong to both."""

    def of(frame: pd.DataFrame) -> pd.DataFrame:
        chosen = frame[(frame["lr_schedule"] == lr_schedule) | (frame["n"] == 1)]
        return chosen.assign(lr_schedule=lr_schedule)

    return replace(record, final=of(record.final), curves=of(record.curves))


def draw(record: Record) -> Figure:
    """Draw final win rate against N under both schedules."""
    figure, axes = style.subplots(2)
    axes[1].sharey(axes[0])
    for ax, lr_schedule in zip(axes, SCHEDULES, strict=True):
        panels.against_n(ax, arm(record, lr_schedule))
        ax.set_title(f"Learning rate stepped {lr_schedule.replace('_', ' ')}")
    style.footer(figure, record.final)
    return figure


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return each claim's effect under both schedules and their difference, paired by seed.

    A claim needs its algorithms and at least three N that were run under both schedules.
    """
    del options
    rows = []
    in_both = set.intersection(*(set(arm(record, name).final["n"]) for name in SCHEDULES))
    for claim in registry.load(CLAIMS):
        n = tuple(value for value in claim.n if value in in_both)
        there = set(claim.algorithms) <= set(record.final["algorithm"])
        if claim.id not in EXPLAINED or not there or len(n) < 3:
            continue
        complete = _seeds_with_all(record, claim.algorithms, n)
        both = replace(record, final=complete)
        per_update, per_round = (
            replace(claim, n=n).effects(arm(both, name)).values for name in SCHEDULES
        )
        paired = len(per_update) == len(per_round)
        difference = t_interval(per_round - per_update if paired else [])
        rows.append(
            {
                "claim": claim.id,
                "effect": claim.unit,
                "per_update": t_interval(per_update).estimate,
                "per_round": t_interval(per_round).estimate,
                "explained": difference.estimate,
                "lo": difference.lo,
                "hi": difference.hi,
                "seeds": difference.n,
            }
        )
    return pd.DataFrame(rows)


def _seeds_with_all(
    record: Record, algorithms: tuple[str, ...], n: tuple[int, ...]
) -> pd.DataFrame:
    """Return the final rows of the seeds that have every N of every algorithm in both arms."""
    final = record.final
    needed = {
        frozenset(arm(record, lr_schedule).by_n(name, n).index)
        for lr_schedule in SCHEDULES
        for name in algorithms
    }
    return final[final["seed"].isin(frozenset.intersection(*needed))]


REPRODUCTION = Reproduction(
    name="ablation_lr_schedule",
    caption=__doc__,
    grid=mini_batches("ppo", "online_dpo", lr_schedules=SCHEDULES),
    draw=draw,
    tabulate=tabulate,
    ranks=("algorithm", "lr_schedule"),
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
