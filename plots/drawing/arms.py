"""Figures of arms: win rate by size, a row each, over what the runs cost, a column each."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plots.analysis import arms, overlap
from plots.analysis.frames import Record
from plots.drawing import style
from plots.drawing.panels import Y_LABELS, ceiling_level, final_points, sft_level

X_LABELS = {
    "episodes": "episodes (prompts)",
    "step": "updates",
    "run_s": "seconds, the two phases overlapping",
    "kl_nats": Y_LABELS["kl_nats"],
}
COLOURS = (
    style.BLUE, style.VERMILLION, style.PURPLE, style.ORANGE, style.GREEN, style.SKY, style.BLACK,
)  # fmt: skip
MARKERS = "os^DvP*"
DASHES = ("-", "--", ":", "-.")


def win_rate_against(record: Record, titles: Mapping[str, str]) -> Figure:
    """Draw gold win rate: a row of panels per model size, a column per x axis.

    Seeds are thin lines. Their mean is bold and ends in the final policies' mean with its
    intervals. Algorithms differ in their dashes. The column of time says what an update's time is
    made of.

    Args:
        record: with columns of arms.
        titles: of the columns, by x axis of ``X_LABELS``.
    """
    sizes = overlap.sizes(record)
    height = 0.7 + 1.75 * len(sizes)
    figure, axes = style.subplots(len(titles), rows=len(sizes), height=height)
    for row, size in enumerate(sizes):
        first, *others = axes[row * len(titles) : (row + 1) * len(titles)]
        for ax in others:
            ax.sharey(first)
            ax.tick_params(labelleft=False)
        for ax, x in zip((first, *others), titles, strict=True):
            one = record.where(model=size)
            paths(ax, one, x)
            lines = [X_LABELS[x]] if row == len(sizes) - 1 else []
            lines += [_phases(one)] if x == "run_s" else []
            ax.set_xlabel("\n".join(filter(None, lines)), fontsize=7)
        first.set_ylabel(f"{size}\n{Y_LABELS['win_rate']}")
    for ax, title in zip(axes, titles.values(), strict=False):
        ax.set_title(title)
    _key(figure, record)
    style.footer(figure, record.final)
    return figure


def paths(ax: Axes, record: Record, x: str) -> None:
    """Draw the win rates of one size along ``x``, of all arms and algorithms."""
    curves, final = _with_time(record.curves, "step"), _with_time(record.final, "updates")
    if x == "run_s" and curves[x].isna().all():
        ax.text(0.5, 0.5, "no times were recorded", transform=ax.transAxes, ha="center",
                color=style.GREY)  # fmt: skip
        return
    for (arm, name), (colour, marker, dashes) in _looks(record).items():
        runs = curves[(curves["arm"] == arm) & (curves["algorithm"] == name)]
        for _, run in runs.groupby("run_id"):
            ax.plot(run[x], run["win_rate"], color=colour, lw=0.4, alpha=0.35, ls=dashes)
        mean = runs.groupby("step")[[x, "win_rate"]].mean()
        ax.plot(mean[x], mean["win_rate"], color=colour, lw=1.3, ls=dashes)
        ends = final[final["run_id"].isin(runs["run_id"])]
        final_points(ax, ends, colour, marker, x)
    sft_level(ax, record, 0.98, "right")
    ceiling_level(ax, record, 0.98, "right")
    if x != "kl_nats":
        ax.set_xlim(left=0)


def _with_time(runs: pd.DataFrame, updates: str) -> pd.DataFrame:
    return runs.assign(run_s=runs[updates] * arms.update_s(runs))


def _looks(record: Record) -> dict[tuple[str, str], tuple[str, str, str]]:
    """Return colour, marker and dashes of each arm and algorithm."""
    names = list(record.final["algorithm"].unique())
    return {
        (arm, name): (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[j % len(DASHES)])
        for i, arm in enumerate(arms.names(record))
        for j, name in enumerate(names)
        if ((record.final["arm"] == arm) & (record.final["algorithm"] == name)).any()
    }


def _key(figure: Figure, record: Record) -> None:
    """Name the arms, and the algorithms where there are several, above the panels."""
    labels = style.looks_of(record.final)
    lines = []
    for (arm, name), (colour, marker, dashes) in _looks(record).items():
        label = arm if len(labels) == 1 or arm == name else f"{labels[name].label}, {arm}"
        line = Line2D([], [], label=label, color=colour, marker=marker, ls=dashes, lw=1.3, ms=3.5)
        lines.append(line)
    figure.legend(handles=lines, loc="outside upper left", ncols=4, handlelength=1.8)


def _phases(record: Record) -> str:
    """Return what an update's time is made of, in the first arm."""
    first = arms.summary(record).iloc[0]
    if pd.isna(first["run_s"]):
        return ""
    g, t = 1e3 * first["generate_s"], 1e3 * first["train_s"]
    return f"{first['arm']}: generation {g:.0f} ms, training {t:.0f} ms"
