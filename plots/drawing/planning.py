"""Panels of a plan: what a simulation says of each schedule, one row per schedule and devices.

``frame`` is the table of ``bench.planning.predict.table`` for one model.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from plots.drawing import style

COLOURS = {"whole": style.SKY, "split": style.BLUE}
BUSY = {"engine_busy": ("engine", style.ORANGE), "learner_busy": ("learner", style.BLUE)}
SHADES = ("#FFFFFF", style.VERMILLION)  # of staleness: none, the most


def rows(ax: Axes, frame: pd.DataFrame) -> None:
    """Name the rows of a panel after schedule and devices, the first at the top."""
    names = frame["schedule"] + ", " + frame["devices"]
    ax.set_yticks(range(len(frame)), list(names))
    ax.set_ylim(len(frame) - 0.4, -0.6)
    ax.grid(visible=False)


def update_times(ax: Axes, frame: pd.DataFrame, chosen: int) -> None:
    """Draw the time per update, its ideal as a line, and the speed-up over taking turns as text.

    Args:
        ax: where.
        frame: one row per schedule and devices.
        chosen: the position of the recommended row, which is drawn in another colour.
    """
    colours = [COLOURS[devices] for devices in frame["devices"]]
    colours[chosen] = style.GREEN
    ax.barh(range(len(frame)), 1e3 * frame["update_s"], 0.62, color=colours)
    for row, one in enumerate(frame.to_dict("records")):
        ideal_ms = 1e3 * one["ideal_s"]
        ax.plot([ideal_ms] * 2, [row - 0.38, row + 0.38], color=style.BLACK, lw=1.2)
        text = "" if np.isnan(one["speed_up_split"]) else f"{one['speed_up_split']:.2f}x"
        text += " recommended" if row == chosen else ""
        end_ms = max(1e3 * one["update_s"], ideal_ms)
        ax.annotate(text, (end_ms, row), xytext=(3, 0), textcoords="offset points", va="center",
                    fontsize=6.5)  # fmt: skip
    rows(ax, frame)
    ax.set_xlim(0, 1.35e3 * frame["update_s"].max())
    ax.set_xlabel("time per update (ms); line: ideal")


def busy_shares(ax: Axes, frame: pd.DataFrame) -> None:
    """Draw the share of the run that engine and learner work."""
    for at, (column, (label, colour)) in enumerate(BUSY.items()):
        places = np.arange(len(frame)) + 0.31 * (at - 0.5)
        ax.barh(places, 100 * frame[column], 0.3, color=colour, label=label)
    rows(ax, frame)
    ax.set_yticklabels([])
    ax.set_xlim(0, 100)
    ax.set_xlabel("busy (% of the run)")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handlelength=1.0)


def staleness(ax: Axes, frame: pd.DataFrame) -> None:
    """Draw the share of batches at each staleness, as shades of a tile, and the mean as a dot."""
    most = max(len(shares) for shares in frame["staleness"])
    shares = np.zeros((len(frame), most))
    for row, found in enumerate(frame["staleness"]):
        shares[row, : len(found)] = found
    shades = LinearSegmentedColormap.from_list("staleness", SHADES)
    ax.imshow(shares, cmap=shades, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    ax.plot(frame["staleness_mean"], range(len(frame)), ".", color=style.BLACK, ms=4)
    rows(ax, frame)
    ax.set_yticklabels([])
    ax.set_xlim(-0.5, most - 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("staleness; dot: mean")
