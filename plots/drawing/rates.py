"""Panels over learning rate and lag."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from plots.analysis import rates
from plots.analysis.frames import Record
from plots.drawing import panels, style


def win_rate_map(ax: Axes, record: Record, algorithm: str) -> None:
    """Draw the mean final win rate of a loss by lag, upwards, and learning rate.

    A diverged run counts at its SFT win rate. The line goes through the geometric means of the
    largest stable rates.
    """
    final = record.final[record.final["algorithm"] == algorithm]
    table = final.pivot_table(index="n", columns="learning_rate", values="win_rate")
    ax.imshow(table, origin="lower", aspect="auto", cmap="viridis")
    grid, lags = table.columns.to_numpy(dtype=float), list(table.index)
    middle = (table.to_numpy().min() + table.to_numpy().max()) / 2
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        if not np.isnan(value):
            colour = "white" if value < middle else style.BLACK
            ax.text(column, row, f"{value:.2f}".lstrip("0"), ha="center", va="center",
                    fontsize=6, color=colour)  # fmt: skip
    ax.set_xticks(range(len(grid)), [_short(rate) for rate in grid], fontsize=6)
    ax.set_yticks(range(len(lags)), [str(n) for n in lags])
    ax.grid(visible=False)
    stable = rates.largest_stable(record, algorithm).groupby("n")["log2_rate"].mean()
    at = np.interp(stable, np.log2(grid), np.arange(len(grid)))
    ax.plot(at, [lags.index(n) for n in stable.index], "o-", color=style.VERMILLION,
            lw=1.3, ms=4, mec="white", mew=0.5)  # fmt: skip
    ax.set(xlabel="learning rate", ylabel="lag (updates)")


def stable_rates(ax: Axes, record: Record) -> None:
    """Draw the largest stable rate against lag: seeds as dots, hollow where it is a lower bound,
    geometric mean with interval, beside a line on which rate times lag is constant."""
    style.log2_axis(ax, record.final["n"])
    ax.set_yscale("log", base=2)
    looks, labels = style.looks_of(record.final), []
    for i, (name, look) in enumerate(looks.items()):
        found = rates.largest_stable(record, name)
        if found.empty:
            continue
        beside = 2 ** (0.25 * (i - (len(looks) - 1) / 2))
        for is_bound, runs in found.groupby("is_bound"):
            inside = {"mfc": "none", "ms": 4} if is_bound else panels.SEED_DOT
            ax.plot(runs["n"] * beside, 2 ** runs["log2_rate"], "o", color=look.colour, **inside)
        means = found.groupby("n")["log2_rate"].mean()
        ax.plot(means.index * beside, 2**means, look.marker, ls="-", color=look.colour, lw=1.0,
                mec="white", mew=0.5, ms=4.5)  # fmt: skip
        labels.append((2 ** means.iloc[-1], look.label, look.colour))
    lags = np.array(sorted(record.final["n"].unique()))
    top = record.final["learning_rate"].max()
    ax.plot(lags, top * lags[0] / lags, ":", color=style.GREY, lw=1.0, zorder=1)
    ax.annotate("rate x lag\nconstant", (lags[0], top), xytext=(12, -4),
                textcoords="offset points", color=style.GREY, fontsize=6.5)  # fmt: skip
    ticks = sorted(record.final["learning_rate"].unique())
    ax.set_yticks(ticks, [_short(rate) for rate in ticks])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="lag (updates)", ylabel="largest stable learning rate")
    style.end_labels(ax, lags[-1] * 2**0.3, labels)
    panels.say_if_one_seed(ax, record, 0.02)


def _short(rate: float) -> str:
    """Return a rate in few characters: 2e-4."""
    digits, _, power = f"{rate:.1e}".partition("e")
    return f"{float(digits):g}e{int(power)}"
