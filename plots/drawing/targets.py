"""A panel of how soon: the updates to a win rate."""

from __future__ import annotations

import math

from matplotlib.axes import Axes

from plots.analysis import targets
from plots.analysis.frames import Record
from plots.drawing import panels, style


def updates_to_half(ax: Axes, record: Record) -> None:
    """Draw the updates to half of the gain against N: seeds as dots, median as line.

    A run that was not there when it ended is hollow, at its last update. The line ends where half
    of an algorithm's seeds or more were not there.
    """
    found = targets.updates_to_target(record)
    if found.empty:
        style.say_empty(ax, "no gain on fresh data")
        return
    looks = style.looks_of(record.final)
    style.log2_axis(ax, found["n"])
    for i, (name, look) in enumerate(looks.items()):
        runs = found[found["algorithm"] == name]
        beside = 2 ** (0.12 * (i - (len(looks) - 1) / 2))
        there, never = runs[runs["updates"].notna()], runs[runs["updates"].isna()]
        ax.plot(
            there["n"] * beside, there["updates"], look.marker, color=look.colour, **panels.SEED_DOT
        )
        ax.plot(
            never["n"] * beside, never["last"], look.marker, color=look.colour, mfc="none", ms=4
        )
        medians = runs.fillna({"updates": math.inf}).groupby("n")["updates"].median()
        drawn = medians[medians < math.inf]
        ax.plot(drawn.index * beside, drawn, color=look.colour, lw=1.0)
    if found["updates"].isna().any():
        ax.text(0.02, 0.84, "hollow: not there\nwhen training ended", transform=ax.transAxes,
                color=style.GREY, fontsize=6.5)  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.set_ylabel("updates to half of the gain")
