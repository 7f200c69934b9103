"""How figures look: sizes, fonts, one colour and marker per algorithm, provenance, saving."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.errors import UserError

ONE_COLUMN, TWO_COLUMNS = 3.5, 7.0  # inches
GREY = "#777777"

# Okabe and Ito's colours, which remain distinct under the common colour-vision deficiencies.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"

RC: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that files are the same everywhere
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "svg.fonttype": "path",
    "svg.hashsalt": "async-rlhf-bench",
    "text.usetex": False,
}


@dataclass(frozen=True, slots=True)
class Look:
    """The label, colour and marker of an algorithm in every figure."""

    label: str
    colour: str
    marker: str


LOOKS = {
    "ppo": Look("PPO", BLUE, "o"),
    "rloo": Look("RLOO", VERMILLION, "s"),
    "online_dpo": Look("Online DPO", GREEN, "^"),
    "best_of_2": Look("Best-of-2", PURPLE, "D"),
    "rloo_vanilla": Look("RLOO (vanilla)", ORANGE, "v"),
    "copg": Look("CoPG", SKY, "P"),
    "online_ipo": Look("Online IPO", BLACK, "<"),
}
FREE_MARKERS = ">hpd*8H"  # none of the above, and no cross, which marks a diverged run
FREE_COLOURS = (BLACK, PURPLE, GREEN, SKY, ORANGE, BLUE, VERMILLION)


def looks(algorithms: Iterable[str]) -> dict[str, Look]:
    """Return the look of each algorithm: those in ``LOOKS`` first, then the others by name.

    The others get a marker that none in ``LOOKS`` has, and colours that none of those that are
    there has, each in turn. They may be runs of another directory: "ppo (mine)".
    """
    names = set(algorithms)
    found = {name: look for name, look in LOOKS.items() if name in names}
    taken = {look.colour for look in found.values()}
    colours = [colour for colour in FREE_COLOURS if colour not in taken] or FREE_COLOURS
    for i, name in enumerate(sorted(names - set(LOOKS))):
        marker = FREE_MARKERS[i % len(FREE_MARKERS)]
        # One further after each round of markers: no pair is there twice before all are.
        further = i // len(FREE_MARKERS) if len(colours) == len(FREE_MARKERS) else 0
        colour = colours[(i + further) % len(colours)]
        algorithm, bracket, directory = name.partition(" (")
        label = LOOKS[algorithm].label if algorithm in LOOKS else algorithm.replace("_", " ")
        found[name] = Look(label + bracket + directory, colour, marker)
    return found


def looks_of(runs: pd.DataFrame) -> dict[str, Look]:
    """Return the look of each algorithm among runs, with "untuned" in the label of those that are.

    An algorithm is untuned if none of its runs has the hyper-parameters that a search chose.
    """
    found = looks(runs["algorithm"])
    if "tuned" in runs:
        tuned = runs["tuned"].astype(bool)
        untuned = set(runs["algorithm"]) - set(runs.loc[tuned, "algorithm"])
        for name in untuned & set(found):
            found[name] = replace(found[name], label=f"{found[name].label}, untuned")
    return found


def n_colours(n: Iterable[int]) -> dict[int, str]:
    """Return a colour per N, from dark to light, without the pale end of viridis."""
    values = sorted({int(value) for value in n})
    return dict(zip(values, _shades("viridis", 0.0, 0.9, len(values)), strict=True))


def size_colours(sizes: Sequence[str]) -> dict[str, str]:
    """Return a colour per model size, from the smallest in dark to the largest in light."""
    return dict(zip(sizes, _shades("plasma", 0.0, 0.8, len(sizes)), strict=True))


def _shades(colours: str, first: float, last: float, count: int) -> list[str]:
    return [to_hex(shade) for shade in mpl.colormaps[colours](np.linspace(first, last, count))]


def subplots(
    columns: int,
    width: float = TWO_COLUMNS,
    height: float = 2.6,
    ratios: Sequence[float] = (),
    rows: int = 1,
    *,
    sharex: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels, row by row, in inches, and apply the style from here on."""
    mpl.rcParams.update(RC)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(
        rows, columns, squeeze=False, sharex=sharex, width_ratios=list(ratios) or None
    )
    return figure, list(axes.flat)


def say_empty(ax: Axes, reason: str) -> None:
    """Write in the middle of a panel why nothing is drawn in it."""
    ax.text(0.5, 0.5, reason, transform=ax.transAxes, ha="center", va="center", color=GREY)
    ax.set_yticks([])
    ax.grid(visible=False)


def log2_axis(ax: Axes, n: Iterable[int]) -> None:
    """Make the x axis one of N, in doublings."""
    values = sorted(set(n))
    ax.set_xscale("log", base=2)
    ax.set_xticks(values, [str(value) for value in values])
    ax.minorticks_off()
    ax.set_xlabel("N (mini-batches per round)")


def end_labels(ax: Axes, x: float, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write (y, text, colour) at the right of ``x``, moved apart so that none overlap.

    The highest stays within the panel. What has no y is left out. Call it last: it reads the limits
    of the y axis.
    """
    low, high = ax.get_ylim()
    gap = 0.075 * (high - low)
    ordered = sorted(label for label in labels if np.isfinite(label[0]))
    places: list[float] = []
    for y, _, _ in ordered:
        places.append(max(y, places[-1] + gap) if places else y)
    if places and places[-1] > high:  # moved down, and those below it
        places[-1] = high
        for i in reversed(range(len(places) - 1)):
            places[i] = min(places[i], places[i + 1] - gap)
    for at, (_, text, colour) in zip(places, ordered, strict=True):
        ax.annotate(
            text, (x, at), xytext=(6, 0), textcoords="offset points", color=colour, va="center",
            fontsize=7, annotation_clip=False,
        )  # fmt: skip


def key(figure: Figure, runs: pd.DataFrame) -> None:
    """Name the algorithms of all panels above them."""
    lines = [
        Line2D([], [], label=look.label, color=look.colour, marker=look.marker, lw=1.0)
        for look in looks_of(runs).values()
    ]
    figure.legend(handles=lines, loc="outside upper left", ncols=5)


def footer(figure: Figure, runs: pd.DataFrame) -> None:
    """Write in grey where the runs come from: seeds, preset, model, git revision, hardware.

    Where the hyper-parameters were chosen at another model size, it is named.
    """
    seeds = runs["seed"].nunique()
    text = f"{seeds} seed{'s' * (seeds != 1)}"
    for model in sorted(runs["tuned_at"].dropna().unique()) if "tuned_at" in runs else ():
        text += f" · tuned at {model}"
    origin(figure, runs, text, ("preset", "model"))


def origin(
    figure: Figure, rows: pd.DataFrame, first: str, columns: Sequence[str] = ("preset",)
) -> None:
    """Write in grey ``first``, what some columns say, git revision and hardware of rows."""
    dirty = rows["git_dirty"].map({True: "+", False: ""})
    cores = rows["cores"].map(lambda count: "?" if pd.isna(count) else f"{count:g}")
    host = rows["host_cpu"].fillna("unknown processor") + ", " + cores + " cores"
    hardware = host.where(rows["device"] == "cpu", rows["device"])
    parts = [
        first,
        *(_one_of(f"{name} " + rows[name].fillna("unknown"), f"{name}s") for name in columns),
        "git " + _one_of(rows["git_revision"].str[:7] + dirty, "revisions"),
        _one_of(hardware, "machines"),
    ]
    figure.supxlabel(" · ".join(parts), x=0.01, ha="left", fontsize=6, color=GREY)


def remark(figure: Figure, text: str) -> None:
    """Write a line of grey text below what ``footer`` wrote."""
    above = figure.get_supxlabel()
    figure.supxlabel(f"{above}\n{text}".strip(), x=0.01, ha="left", fontsize=6, color=GREY)


def _one_of(values: pd.Series[str], plural: str) -> str:
    different = sorted(set(values.fillna("unknown")))
    return different[0] if len(different) == 1 else f"{len(different)} {plural}"


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write ``stem``.png and ``stem``.svg, the same bytes for the same figure.

    Raises:
        UserError: the directory cannot be written.
    """
    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(RC):
            # ``savefig`` draws everything once more, to lay it out.
            figure.set_dpi(220)
            FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
            FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})
    except OSError as error:
        raise UserError(f"{stem.parent}: figures cannot be written: {error.strerror}") from error
    return png, svg
