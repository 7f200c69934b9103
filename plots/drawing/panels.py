"""Panels: functions that draw a record into an ``Axes``.

Every seed is drawn: as a thin line in trajectories, as a dot at the final policy. Means carry the
95% interval of ``analysis.stats`` from two seeds on, never a band. A diverged run is a cross at the
SFT win rate, where it counts. ``record`` holds one model and one learning-rate schedule.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from plots.analysis import estimands, stats
from plots.analysis.frames import Record
from plots.analysis.stats import Interval, Tolerance
from plots.drawing import style

Y_LABELS = {
    "win_rate": "gold win rate",
    "win_rate_area": "mean win rate over training",
    "kl_nats": "KL from SFT (nats)",
    "perplexity": "perplexity under SFT",
    "perplexity_diluted": "perplexity, as the paper",
    "reward_mean": "proxy reward",
    "completion_tokens_mean": "mean completion (tokens)",
}

PLANE = ["kl_nats", "win_rate"]  # columns of final policies and of evaluations
SEED_DOT: dict[str, Any] = {"ms": 3.2, "alpha": 0.6, "mew": 0}
MEAN_POINT: dict[str, Any] = {"ms": 4, "mec": "white", "mew": 0.5, "elinewidth": 0.8, "zorder": 3}


def interval_of(y: str) -> Callable[[ArrayLike], Interval]:
    """Return how the interval of a column is computed: win rates on the logit scale."""
    return stats.win_rate_interval if y.startswith("win_rate") else stats.t_interval


def against_episodes(ax: Axes, record: Record, y: str = "win_rate") -> None:
    """Draw trajectories, coloured by N: seeds as thin lines, their mean bold.

    The first algorithm's lines are solid, those of others beside it are dashed.
    """
    import seaborn as sns  # here, since most figures need none of it

    palette = style.n_colours(record.curves["n"])
    for frame, dashes in series(record.curves):
        common = {"data": frame, "x": "episodes", "y": y, "hue": "n", "palette": palette, "ax": ax}
        sns.lineplot(**common, units="run_id", estimator=None, lw=0.4, alpha=0.4, legend=False)
        sns.lineplot(**common, estimator="mean", errorbar=None, lw=1.3, ls=dashes, legend=False)
    if y == "win_rate":
        ceiling_level(ax, record, 0.02, "left")
    ax.set(xlabel="episodes (prompts)", ylabel=Y_LABELS[y])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
    say_if_one_seed(ax, record)


def n_key(ax: Axes, record: Record, x: float = 0.98, y: float = 0.05) -> None:
    """Write the values of N in their colours, in one line that ends at (x, y) in axes fractions."""
    palette = style.n_colours(record.curves["n"])
    at = x
    for value, colour in reversed(palette.items()):
        ax.text(at, y, str(value), color=colour, transform=ax.transAxes, ha="right", fontsize=7,
                fontweight="bold")  # fmt: skip
        at -= 0.035 + 0.042 * len(str(value))
    ax.text(at, y, "N =", color=style.GREY, transform=ax.transAxes, ha="right", fontsize=7)


def series_key(ax: Axes, record: Record, side: Literal["left", "right"] = "right") -> None:
    """Name the lines where there is more than one algorithm, below at the left or right."""
    looks = style.looks_of(record.final)
    lines = series(record.curves)
    if len(lines) > 1:
        for frame, dashes in lines:
            label = looks[frame["algorithm"].iloc[0]].label
            ax.plot([], [], color=style.GREY, lw=1.3, ls=dashes, label=label)
        corner: Literal["lower left", "lower right"]
        x, corner = (0.0, "lower left") if side == "left" else (1.0, "lower right")
        ax.legend(loc=corner, bbox_to_anchor=(x, 0.1), handlelength=2.2)


def frontier_paths(ax: Axes, record: Record) -> None:
    """Draw mean paths of win rate against KL and the final policies, by N.

    The first algorithm's paths are solid, those of others beside it are dashed.
    """
    palette = style.n_colours(record.curves["n"])
    for at, (frame, dashes) in enumerate(series(record.curves)):
        for n in sorted(frame["n"].unique()):
            runs = frame[frame["n"] == n]
            path = runs.groupby("step")[["kl_nats", "win_rate"]].mean()
            ax.plot(path["kl_nats"], path["win_rate"], color=palette[n], lw=1.0, ls=dashes)
            final = record.final[record.final["run_id"].isin(runs["run_id"])]
            final_points(ax, final, palette[n], "os^D"[at % 4])
    sft_level(ax, record, 0.98, "right")
    ceiling_level(ax, record, 0.02, "left")
    ax.set(xlabel=Y_LABELS["kl_nats"], ylabel=Y_LABELS["win_rate"])
    say_if_one_seed(ax, record)


def frontier_ends(ax: Axes, record: Record) -> None:
    """Draw final win rate against final KL: per algorithm a line through the means, in order of N.

    The ways there are thin, one mean path per N. The first and the last N of each line are written
    beside their points. Means are over the seeds that did not diverge; those that did are crosses
    at KL 0.
    """
    for name, look in style.looks_of(record.final).items():
        runs = record.final.loc[record.final["algorithm"] == name, ["n", "status", *PLANE]]
        curves = record.curves["algorithm"] == name
        ways_there(ax, record.curves.loc[curves, ["n", "status", "step", *PLANE]], look.colour)
        means = final_cells(ax, runs, look.colour, look.marker)
        ax.plot(means["kl_nats"], means["win_rate"], color=look.colour, lw=0.9)
    ceiling_level(ax, record, 0.02, "left")
    ax.set(xlabel=Y_LABELS["kl_nats"], ylabel=Y_LABELS["win_rate"])
    say_if_one_seed(ax, record, 0.02)


def final_cells(ax: Axes, runs: pd.DataFrame, colour: str, marker: str) -> pd.DataFrame:
    """Draw final policies in the KL plane, N by N, and write the first and the last N beside them.

    Returns:
        Mean ``kl_nats`` and ``win_rate`` by N, over the seeds that did not diverge.
    """
    for _, cell in runs.groupby("n"):
        final_points(ax, cell, colour, marker)
    means = runs[runs["status"] != "diverged"].groupby("n")[["kl_nats", "win_rate"]].mean()
    ends = {} if means.empty else {means.index[-1]: (-4, "right"), means.index[0]: (4, "left")}
    for n, (beside, align) in ends.items():
        ax.annotate(
            f"{n}", tuple(means.loc[n]), xytext=(beside, beside), textcoords="offset points",
            color=colour, fontsize=6.5, ha=align, va="center",
        )  # fmt: skip
    return means


def ways_there(ax: Axes, curves: pd.DataFrame, colour: str, dashes: str = "-") -> None:
    """Draw mean paths of win rate against KL, thin, one per N, without seeds that diverged."""
    for _, runs in curves[curves["status"] != "diverged"].groupby("n"):
        path = runs.groupby("step")[["kl_nats", "win_rate"]].mean()
        ax.plot(path["kl_nats"], path["win_rate"], color=colour, lw=0.5, alpha=0.45, ls=dashes)


def against_n(ax: Axes, record: Record, y: str = "win_rate", *, labelled: bool = True) -> None:
    """Draw each run's ``y`` against N: one line per algorithm through the means, seeds as dots.

    The lines are named at their ends, unless ``labelled`` is false: see ``style.key``.
    """
    final = record.final
    if final.empty:
        style.say_empty(ax, "not run")
        return
    looks = style.looks_of(final)
    style.log2_axis(ax, final["n"])
    labels = []
    for i, (name, look) in enumerate(looks.items()):
        runs = final.loc[final["algorithm"] == name, ["n", "status", y]]
        beside = 2 ** (0.12 * (i - (len(looks) - 1) / 2))  # algorithms side by side at each N
        means = runs.groupby("n")[y].mean()
        ax.plot(means.index * beside, means, color=look.colour, lw=1.0)
        for n in means.index:
            _cell(ax, n * beside, runs[runs["n"] == n], y, look)
        labels.append((means.iloc[-1], look.label, look.colour))
    if y.startswith("win_rate"):
        sft_level(ax, record, 0.02, "left")
        ceiling_level(ax, record, 0.98, "right")
    ax.set_ylabel(Y_LABELS.get(y, y))
    last = final.loc[final[y].notna(), "n"].max()  # no point is drawn beyond it
    style.end_labels(ax, last * 2**0.2, labels if labelled else [])
    say_if_one_seed(ax, record, 0.02)


def tolerance_bars(ax: Axes, record: Record, y: str = "win_rate") -> None:
    """Draw off-policy tolerance (OPT) per algorithm with its interval, best on top, and N80."""
    looks = style.looks_of(record.final)
    found = {name: estimands.tolerance(record, name, y) for name in looks}
    order = sorted(found, key=lambda name: _height(found[name]), reverse=True)
    for row, name in enumerate(order):
        opt = found[name].opt
        if opt is None:
            reason = "undefined:\n" + textwrap.fill(found[name].reason, 24)
            ax.text(0.02, row, reason, va="center", fontsize=6, color=style.GREY)
            continue
        ax.barh(row, opt.estimate, color=looks[name].colour, height=0.55, alpha=0.85)
        ax.errorbar(opt.estimate, row, xerr=sides(opt), color=style.BLACK, lw=1.0)
        ax.annotate(f"{opt.estimate:.2f}", (max(opt.hi, 0), row), xytext=(3, 0),
                    textcoords="offset points", va="center", fontsize=6.5)  # fmt: skip
    names = [f"{textwrap.fill(looks[n].label, 16)}\n{_n80(found[n])}".strip() for n in order]
    ax.set_yticks(range(len(order)), names)
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.set_xlim(right=max(1.25, ax.get_xlim()[1] * 1.15))
    ax.grid(visible=False)
    of = " (mean)" if y == "win_rate_area" else ""
    ax.set_xlabel(f"OPT{of}, N = 1 to {max(record.final['n'])}")


def final_points(
    ax: Axes, runs: pd.DataFrame, colour: str, marker: str, x: str = "kl_nats"
) -> None:
    """Draw a cell's final policies against ``x``: dots, mean and intervals; diverged at 0."""
    sound, lost = runs[runs["status"] != "diverged"], runs[runs["status"] == "diverged"]
    ax.plot(sound[x], sound["win_rate"], ".", color=colour, **SEED_DOT)
    ax.plot([0.0] * len(lost), lost["win_rate"], "x", color=colour, ms=5)
    if len(sound):
        at, y = stats.t_interval(sound[x]), stats.win_rate_interval(sound["win_rate"])
        ax.errorbar(at.estimate, y.estimate, xerr=sides(at), yerr=sides(y), fmt=marker,
                    color=colour, **MEAN_POINT)  # fmt: skip


def series(frame: pd.DataFrame) -> list[tuple[pd.DataFrame, str]]:
    """Return the rows of each algorithm, in order, and how its lines are dashed."""
    names = frame["algorithm"].unique()
    dashes = ["-", "--", ":", "-."]
    return [(frame[frame["algorithm"] == n], dashes[i % 4]) for i, n in enumerate(names)]


def _height(tolerance: Tolerance) -> float:
    return -math.inf if tolerance.opt is None else tolerance.opt.estimate


def _n80(tolerance: Tolerance) -> str:
    if tolerance.opt is None:
        return ""
    return f"N80 {'>' if tolerance.n80_censored else '='} {tolerance.n80:.0f}"


def _cell(ax: Axes, x: float, cell: pd.DataFrame, y: str, look: style.Look) -> None:
    """Draw one cell at ``x``: seeds as dots, diverged ones as crosses, mean with interval."""
    for marker, dot, runs in (
        (".", SEED_DOT, cell[cell["status"] != "diverged"]),
        ("x", {"ms": 5}, cell[cell["status"] == "diverged"]),
    ):
        ax.plot([x] * len(runs), runs[y], marker, color=look.colour, **dot)
    mean = interval_of(y)(cell[y].dropna())
    ax.errorbar(
        x, mean.estimate, yerr=sides(mean), fmt=look.marker, color=look.colour, **MEAN_POINT
    )


def sides(interval: Interval) -> list[list[float]] | None:
    """Return the lengths of an error bar to both sides; None for a single seed."""
    if interval.n < 2:
        return None
    lengths = interval.estimate - interval.lo, interval.hi - interval.estimate
    return [[max(0.0, length)] for length in lengths]  # equal seeds leave a rounding error


def sft_level(ax: Axes, record: Record, x: float, align: str) -> None:
    """Draw the mean win rate before training, where there is one."""
    level = float(record.final["sft_win_rate"].mean())
    if math.isnan(level):
        return
    ax.axhline(level, color=style.GREY, lw=0.8, ls="--", zorder=1)
    ax.annotate("SFT", (x, level), xycoords=("axes fraction", "data"), xytext=(0, 2),
                textcoords="offset points", ha=align, color=style.GREY, fontsize=6.5)  # fmt: skip


def ceiling_level(ax: Axes, record: Record, x: float, align: str) -> None:
    """Draw the win rate of a perfect policy, where it is known and near what is drawn.

    Near is up to a tenth of the drawn range above it: the panel is for what differs.
    """
    low, high = ax.get_ylim()
    if record.ceiling is None or record.ceiling > high + 0.1 * (high - low):
        return
    ax.axhline(record.ceiling, color=style.GREY, lw=0.8, ls=":", zorder=1)
    ax.annotate(f"ceiling {record.ceiling:.3f}", (x, record.ceiling),
                xycoords=("axes fraction", "data"), xytext=(0, 2), textcoords="offset points",
                ha=align, color=style.GREY, fontsize=6.5, annotation_clip=True)  # fmt: skip


def say_if_one_seed(ax: Axes, record: Record, y: float = 0.94) -> None:
    """Say in a panel that what it shows is of one seed, at height ``y`` in axes fractions."""
    if record.final["seed"].nunique() == 1:
        ax.text(0.02, y, "1 seed", transform=ax.transAxes, color=style.GREY, fontsize=6.5)
