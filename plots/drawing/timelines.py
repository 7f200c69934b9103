"""Panels of timed runs: where the time went. Every seed is drawn, as in ``panels``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from plots.analysis import overlap, stats
from plots.analysis.frames import Record
from plots.drawing import style
from plots.drawing.panels import MEAN_POINT, SEED_DOT, Y_LABELS, ceiling_level

LABELS = {
    "split": "synchronous, split cores",
    "whole": "synchronous, the whole machine",
    "overlapped": "asynchronous, split cores",
}
SHORT = {"split": "sync,\nsplit", "whole": "sync,\nwhole", "overlapped": "async"}
COLOURS = {"split": style.BLUE, "whole": style.SKY, "overlapped": style.VERMILLION}
PHASES = {
    "generate": style.ORANGE,
    "load": style.PURPLE,
    "wait": "#D9D9D9",
    "score": style.SKY,
    "learn": style.BLUE,
    "publish": style.GREEN,
}
ROW_HEIGHT = 0.62


def win_rate_over_time(ax: Axes, record: Record) -> None:
    """Draw gold win rate against training time, see ``curves_by_arm``, with a key of the arms."""
    curves_by_arm(ax, record, "wall_s", "win_rate")
    handles: list[Artist] = [
        Patch(color=c, label=SHORT[a].replace("\n", " ")) for a, c in COLOURS.items()
    ]
    for name in record.curves["algorithm"].unique()[1:]:
        label = style.looks([name])[name].label
        handles.append(Line2D([], [], color=style.GREY, ls="--", label=label))
    ceiling_level(ax, record, 0.02, "left")
    ax.legend(handles=handles, loc="lower right", handlelength=1.0)
    ax.set(xlabel="training time (s), evaluation left out", ylabel=Y_LABELS["win_rate"])
    ax.set_xlim(left=0)


def curves_by_arm(ax: Axes, record: Record, x: str, y: str) -> None:
    """Draw columns of evaluations against each other: seeds thin, per arm the mean of both bold.

    Runs of another directory, beside the first, are dashed. A diverged run ends in a cross.
    """
    for at, name in enumerate(record.curves["algorithm"].unique()):
        dashes = "--" if at else "-"
        for arm, colour in COLOURS.items():
            frame = record.curves
            runs = frame[(frame["timed"] == arm) & (frame["algorithm"] == name)]
            if runs.empty:
                continue
            for _, run in runs.groupby("run_id"):
                ax.plot(run[x], run[y], color=colour, lw=0.4, alpha=0.5, ls=dashes)
            lost = runs[runs["status"] == "diverged"].groupby("run_id").tail(1)
            if len(lost):
                ax.plot(lost[x], lost[y], "x", color=colour, ms=5)
            mean = runs.groupby("step", as_index=False)[sorted({"step", x, y})].mean()
            ax.plot(mean[x], mean[y], color=colour, lw=1.4, ls=dashes)
            end = mean.iloc[-1]
            ax.plot(end[x], end[y], "o", color=colour, ms=3.5)


def final_by_arm(ax: Axes, record: Record, margin: float, y: str = "win_rate") -> None:
    """Draw final win rates by arm; a band shows what counts as equal to the synchronous run.

    Runs of another directory, beside the first, are hollow squares; diverged runs are crosses at
    the SFT win rate, where they count. ``y`` is the column of ``Record.final``.
    """
    first, *others = record.final["algorithm"].unique()
    for x, (arm, colour) in enumerate(COLOURS.items()):
        frame = record.final[record.final["timed"] == arm]
        own = frame[frame["algorithm"] == first]
        wins, sound = own[y], own[own["status"] != "diverged"][y]
        lost = own[own["status"] == "diverged"][y]
        beside = frame[frame["algorithm"].isin(others)][y]
        ax.plot([x + 0.2] * len(beside), beside, "s", color=colour, mfc="white", ms=3)
        mean = stats.win_rate_interval(wins)
        if math.isnan(mean.estimate):
            ax.text(x, 0.5, "not run" if own.empty else "no win rate", ha="center", va="center",
                    transform=ax.get_xaxis_transform(), color=style.GREY, fontsize=6.5)  # fmt: skip
            continue
        ax.plot([x - 0.16] * len(sound), sound, ".", color=colour, **SEED_DOT)
        if len(lost):
            ax.plot([x - 0.16] * len(lost), lost, "x", color=colour, ms=5)
        sides = None
        if mean.n > 1:
            sides = [[max(0.0, mean.estimate - mean.lo)], [max(0.0, mean.hi - mean.estimate)]]
        ax.errorbar(x, mean.estimate, yerr=sides, fmt="o", color=colour, **MEAN_POINT)
        if arm == "split":
            low, high = mean.estimate - margin, mean.estimate + margin
            ax.axhspan(low, high, color="#EFEFEF", zorder=0, lw=0)
            ax.annotate(
                f"equal within {margin:g}", (0.98, high), xycoords=("axes fraction", "data"),
                xytext=(0, 2), textcoords="offset points", ha="right", color=style.GREY,
                fontsize=6.5,
            )  # fmt: skip
            ax.set_ylim(low - 1.5 * margin, high + 1.5 * margin)
    ceiling_level(ax, record, 0.02, "left")
    ax.set_xticks(range(len(SHORT)), list(SHORT.values()))
    ax.set_xlim(-0.6, len(SHORT) - 0.4)
    ax.set_ylabel(f"final {Y_LABELS.get(y, y.replace('_', ' '))}")


def update_bars(ax: Axes, table: pd.DataFrame, beside: Sequence[pd.DataFrame] = ()) -> None:
    """Draw the mean time per update by arm, stacked by phase, and the ideal as a line.

    An arm without runs is named as such; ratios and the ideal need seeds that have all arms.

    Args:
        ax: where.
        table: of ``overlap.arms`` or ``overlap.medians``.
        beside: tables of runs of another directory; their totals are hollow squares.
    """
    there = set(table.columns.get_level_values(0)) if len(table) else set()
    complete = set(COLOURS) <= there and bool(table.notna().all(axis=None))
    longest = 0.0
    for row, arm in enumerate(COLOURS):
        if arm not in there:
            ax.text(0.02, row, "not run", transform=ax.get_yaxis_transform(), va="center",
                    color=style.GREY, fontsize=6.5)  # fmt: skip
            continue
        times = pd.DataFrame(table[arm]).mean() * 1e3
        longest = max(longest, float(times["update_s"]))
        _phases(ax, row, times, overlapped=arm == "overlapped")
        total = table[arm]["update_s"].dropna() * 1e3
        ax.plot(total, [row] * len(total), ".", color=style.BLACK, **{**SEED_DOT, "alpha": 0.8})
        for other in beside:
            mean = 1e3 * float(other[arm]["update_s"].mean())
            ax.plot(mean, row + 0.24, "s", color=style.BLACK, mfc="white", ms=3.5)
        text = f"{total.mean():.0f} ms"
        if complete and arm != "split":
            text += f"\n{(table['split']['update_s'] / table[arm]['update_s']).mean():.2f}x"
        ax.annotate(text, (total.max(), row), xytext=(4, 0), textcoords="offset points",
                    va="center", fontsize=6.5, zorder=4,
                    bbox={"fc": "white", "ec": "none", "pad": 0.6})  # fmt: skip
    if complete:
        gains = overlap.gains(table)
        ideal = gains["ideal_s"].mean() * 1e3
        ax.axvline(ideal, color=style.BLACK, lw=0.9, ls="--")
        ax.annotate(f"ideal {gains['ideal'].mean():.2f}x", (ideal, -0.5), xytext=(3, 0),
                    textcoords="offset points", va="bottom", fontsize=6.5)  # fmt: skip
    ax.set_yticks(range(len(COLOURS)), [SHORT[arm] for arm in COLOURS])
    ax.set_ylim(len(COLOURS) - 0.4, -0.8)
    ax.set_xlim(0, 1.8 * longest or 1.0)
    ax.grid(visible=False)
    ax.set_xlabel("median time per update (ms)")


def _phases(ax: Axes, row: int, times: pd.Series[float], *, overlapped: bool) -> None:
    """Stack the phases of a mean update, in ms, as one bar."""
    # While the two take turns, the wait is the engine's generation and the way there and back.
    generated = 0.0 if overlapped else min(times["generate_s"], times["wait_s"])
    parts = {
        "generate": generated,
        "wait": times["wait_s"] - generated,
        "score": times["score_s"],
        "learn": times["learn_s"],
        "publish": times["publish_s"],
    }
    left = 0.0
    for phase, width in parts.items():
        ax.barh(row, width, left=left, height=ROW_HEIGHT, color=PHASES[phase], lw=0)
        left += width


def gantt(ax: Axes, spans: pd.DataFrame, first: int, last: int) -> None:
    """Draw what learner and engine of one run did during updates ``first`` to ``last``.

    Bars carry the batch they serve. ``spans`` are of one run.
    """
    start, end = overlap.window(spans, first, last)
    ax.set_xlim(0, max(1e3 * (end - start), ax.get_xlim()[1]))  # panels may share the axis
    shares = overlap.busy(spans, first, last).set_index("process")["busy"]
    processes = [name for name in ("engine", "learner") if name in shares]
    offset = 0.5 if len(processes) == 1 else 0.0
    wide = 0.02 * ax.get_xlim()[1]  # enough for a number
    inside = spans[(spans["end_s"] > start) & (spans["start_s"] < end)]
    for row, process in enumerate(processes):
        y = row + offset
        own = inside[inside["process"] == process]
        lefts = 1e3 * (own["start_s"].clip(lower=start) - start)
        rights = 1e3 * (own["end_s"].clip(upper=end) - start)
        for name, step, left, right in zip(own["name"], own["step"], lefts, rights, strict=True):
            width = right - left
            colour = PHASES.get(name, style.GREY)
            ax.barh(y, width, left=left, height=ROW_HEIGHT, color=colour, lw=0.3, ec="white")
            if name in ("generate", "learn") and width > wide:
                ax.text(left + width / 2, y, str(step), ha="center", va="center",
                        color="white", fontsize=6.5, fontweight="bold")  # fmt: skip
    labels = [f"{name}\n{100 * shares[name]:.0f}% busy" for name in processes]
    ax.set_yticks([row + offset for row in range(len(processes))], labels)
    ax.set_ylim(1.5, -0.5)
    ax.grid(visible=False)


def phase_key(ax: Axes, *, above: bool = True) -> None:
    """Name the colours of the phases, in a line above the panel or in its lower right corner."""
    shown = {name: colour for name, colour in PHASES.items() if above or name != "load"}
    handles = [Patch(color=colour, label=name) for name, colour in shown.items()]
    place = {"bbox_to_anchor": (1.0, 1.0), "ncols": len(PHASES)} if above else {}
    ax.legend(handles=handles, loc="lower right", handlelength=0.8, columnspacing=1.0,
              borderaxespad=0.1, **place)  # fmt: skip
