"""Stale data of every kind on one axis: what losses keep of their gain, and who is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plots.analysis import ranking, staleness, stats
from plots.analysis.frames import Record
from plots.analysis.ranking import Ranking
from plots.drawing import panels, style

COLUMNS = 3
AGES = (0, 1, 4, 16, 64, 256)
ROW = 0.135  # inches of a row of the ranking
_LINE: dict[str, Any] = {"color": style.GREY, "lw": 0.9, "ms": 3, "marker": "o"}
KEY = (
    Line2D([], [], label="N batches of one round", **_LINE),
    Line2D([], [], label="a fixed lag", mfc="white", ls="--", **_LINE),
    Line2D([], [], label="from the mean to the largest age", color=style.GREY, lw=0.5),
)


def families(
    record: Record, names: Mapping[str, Sequence[str]], ranked: Record, y: str = "win_rate_area"
) -> Figure:
    """Draw a panel of kept gain per family, and below them the ranking of some runs.

    Args:
        record: the runs.
        names: of series, by family. A series that is in none has a panel with the others.
        ranked: the runs that are ranked.
        y: the number per run whose gain is drawn, and by which the ranking is.
    """
    there = list(record.final["algorithm"].unique())
    own = {title: [name for name in of if name in there] for title, of in names.items()}
    known = {name for of in names.values() for name in of}
    own["Others"] = [name for name in there if name not in known and "batch x" not in name]
    own = {title: of for title, of in own.items() if of}
    order = ranking.rank(ranked, ("algorithm",))
    rows = -(-len(own) // COLUMNS)
    ranks = len(order.names) if order else 2
    top, bottom = 1.95 * rows, 0.9 + ROW * ranks
    rcParams.update(style.RC)
    figure = Figure(figsize=(style.TWO_COLUMNS, top + bottom), layout="constrained")
    halves = figure.subfigures(2, 1, squeeze=False, height_ratios=(top, bottom))
    above, below = halves.flat
    grid = list(above.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).flat)
    shares = staleness.kept(record, y)
    for ax, (title, of) in zip(grid, own.items(), strict=False):
        kept_gain(ax, shares[shares["algorithm"].isin(of)], of)
        ax.set_title(title)
    for at, ax in enumerate(grid):
        if at >= len(own):
            ax.remove()
        elif at + COLUMNS >= len(own):
            ax.tick_params(labelbottom=True)
    above.legend(handles=KEY, loc="outside upper right", ncols=3)
    above.supxlabel("optimiser steps between sampling and training, mean to largest", fontsize=8)
    above.supylabel("share of gain kept", fontsize=8)
    left, right = below.subplots(1, 2, sharey=True)
    for ax, column in ((left, y), (right, "win_rate")):
        standings(ax, ranked, order, column, ties=column == y)
        ax.set_xlabel(panels.Y_LABELS[column])
    left.set_title("On stale data, best first; bars join what does not differ beyond chance")
    style.footer(figure, record.final)
    style.remark(figure, order.short if order else "There is no ranking: too few common cells.")
    return figure


def kept_gain(ax: Axes, shares: pd.DataFrame, names: Sequence[str]) -> None:
    """Draw kept gain against age: points at the mean age, and a line on to the largest.

    Runs that reuse a round are filled and joined, those of a fixed lag hollow and joined by dashes.

    Args:
        ax: where.
        shares: of ``staleness.kept``.
        names: of series, which have the same looks whatever is drawn of them.
    """
    ax.set_xscale("symlog", base=2, linthresh=1)
    ax.set_xticks(AGES, [str(age) for age in AGES])
    ax.set_xlim(-0.3, 2 * AGES[-1])
    ax.axhline(1, color=style.GREY, lw=0.6, ls=":", zorder=1)
    ax.axhline(0, color=style.GREY, lw=0.6, ls="--", zorder=1)
    if shares.empty:
        style.say_empty(ax, "no clear gain\non fresh data")
        return
    labels = []
    for name, look in style.looks(names).items():
        one = shares[shares["algorithm"] == name].sort_values("mean_steps")
        for is_lag, cells in one.groupby(one["schedule_kind"] == "lag"):
            inside: dict[str, Any] = {"mfc": "white", "ls": "--"} if is_lag else {"ls": "-"}
            ax.plot(cells["mean_steps"], cells["kept"], marker=look.marker, color=look.colour,
                    ms=3, lw=0.9, **inside)  # fmt: skip
            ax.hlines(cells["kept"], cells["mean_steps"], cells["max_steps"], color=look.colour,
                      lw=0.5, alpha=0.6)  # fmt: skip
            ax.vlines(cells["mean_steps"], cells["lo"], cells["hi"], color=look.colour, lw=0.5,
                      alpha=0.4)  # fmt: skip
        if len(one):
            labels.append((one["kept"].iloc[-1], short(look.label, names), look.colour))
    style.end_labels(ax, AGES[-1] * 0.6, labels)


def short(label: str, names: Sequence[str]) -> str:
    """Return what tells a series from the others of its panel: what stands in its brackets."""
    name, _, inside = label.partition(" (")
    bracketed = sum(" (" in one for one in names)
    if not inside or bracketed < len(names) - 1:
        return label
    parts = [
        part for part in inside.removesuffix(")").split(", ") if part[:3] not in ("T =", "K =")
    ]
    return ", ".join(parts) or name


def standings(ax: Axes, record: Record, order: Ranking | None, y: str, *, ties: bool) -> None:
    """Draw the mean over stale cells of each series with its interval, in order of a ranking.

    Args:
        ax: where.
        record: the runs that were ranked.
        order: the ranking; None: there is none.
        y: the number per run.
        ties: whether neighbours that do not differ beyond chance are joined.
    """
    if order is None:
        style.say_empty(ax, "no ranking")
        return
    table, looks = staleness.stale_means(record, y), style.looks_of(record.final)
    interval = panels.interval_of(y)
    for row, name in enumerate(order.names):
        mean = interval(table[name])
        ax.plot(table[name], [row] * len(table), ".", color=looks[name].colour, **panels.SEED_DOT)
        ax.errorbar(mean.estimate, row, xerr=panels.sides(mean), fmt="o", color=style.BLACK,
                    **panels.MEAN_POINT)  # fmt: skip
    ax.set_yticks(range(len(order.names)), [looks[name].label for name in order.names], fontsize=6)
    ax.set_ylim(len(order.names) - 0.4, -0.6)
    ax.grid(visible=False)
    if ties:
        edge = ax.get_xlim()[1]
        for row, is_clear in enumerate(order.clear):
            if not is_clear:
                ax.plot([edge, edge], [row, row + 1], color=style.GREY, lw=2.5, clip_on=False)


def kinds(record: Record, suffixes: Sequence[str]) -> Figure:
    """Draw a row per loss: kept gain, and length and proxy reward of final policies, by age.

    Args:
        record: series are called as in "rloo (dropped)".
        suffixes: what stands in the brackets.
    """
    there = list(record.final["algorithm"].unique())
    losses = list(dict.fromkeys(name.partition(" (")[0] for name in there))
    figure, axes = style.subplots(3, rows=len(losses), height=0.6 + 2.2 * len(losses))
    shares = staleness.kept(record, "win_rate_area")
    for row, loss in enumerate(losses):
        own = [f"{loss} ({suffix})" for suffix in suffixes]
        own += [name for name in there if name.startswith(loss) and name not in own]
        left, middle, right = axes[3 * row : 3 * row + 3]
        kept_gain(left, shares[shares["algorithm"].isin(own)], own)
        of_final(middle, record, own, "completion_tokens_mean")
        of_final(right, record, own, "reward_mean")
        left.set_title(style.looks([loss])[loss].label)
        left.set_ylabel("share of the gain that is kept")
        middle.set_ylabel("tokens of a final completion")
        right.set_ylabel(f"final {panels.Y_LABELS['reward_mean']}")
        for ax in (left, middle, right):
            ax.set_xlabel("age in optimiser steps")
    axes[1].set_title("Who is selected?")
    style.footer(figure, record.final)
    return figure


def of_final(ax: Axes, record: Record, names: Sequence[str], y: str) -> None:
    """Draw a number of final policies against the mean age of their data, with its interval."""
    final = staleness.in_steps(record.final)
    ax.set_xscale("symlog", base=2, linthresh=1)
    ax.set_xticks(AGES[:-1], [str(age) for age in AGES[:-1]])
    for name, look in style.looks(names).items():
        runs = final[(final["algorithm"] == name) & final[y].notna()]
        rows = []
        for _, cell in runs.groupby(staleness.CELL):
            mean = stats.t_interval(cell[y])
            rows.append((cell["mean_steps"].mean(), mean))
        rows.sort(key=lambda row: row[0])
        for at, mean in rows:
            ax.errorbar(at, mean.estimate, yerr=panels.sides(mean), color=look.colour, lw=0.5)
        ax.plot([at for at, _ in rows], [mean.estimate for _, mean in rows], color=look.colour,
                marker=look.marker, ms=3, lw=0.9)  # fmt: skip
