"""Panels of the throughput table: medians over rounds, bars from the first to the third quartile.

``frame`` holds the table's rows, of one session for each benchmark and shape. Series of a benchmark
were timed in turn: a series is the suite's own or what it is measured against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from plots.analysis import overlap
from plots.drawing import style
from plots.drawing.style import Look

ENGINES = {
    "hf": Look("this suite's HF engine", style.BLUE, "o"),
    "vllm": Look("vLLM", style.VERMILLION, "D"),
    "transformers_generate": Look("transformers' generate", style.ORANGE, "s"),
}
UPDATES = {
    "trl_online_dpo": Look("TRL, one core", style.ORANGE, "s"),
    "inline": Look("sync, one core", style.GREEN, "v"),
    "split": Look("sync, split cores", style.BLUE, "o"),
    "whole": Look("sync, all cores", style.SKY, "o"),
    "overlapped": Look("async, split cores", style.VERMILLION, "D"),
}
BOUNDS = ("split", "whole", "ideal")  # what an overlapped update is compared with
SHARES = {"square_matmul": "matmul peak", "matmuls_alone": "its matmuls"}
LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)))  # by model size
NOTE: dict[str, Any] = {"fontsize": 6.5, "textcoords": "offset points"}


def generation(ax: Axes, frame: pd.DataFrame) -> None:
    """Draw generated tokens per second by batch size: a line per engine and model size."""
    rows = frame[(frame["benchmark"] == "generation") & frame["series"].isin(list(ENGINES))]
    if rows.empty:
        style.say_empty(ax, "not measured")
        return
    models = by_size(rows["model"])
    for (engine, model), line in rows.groupby(["series", "model"]):
        look, line = ENGINES[str(engine)], line.sort_values("rows")
        high, middle, low = (line["tokens"].to_numpy(float) / side for side in _quartiles(line))
        ax.errorbar(
            line["rows"], middle, yerr=[middle - low, high - middle], color=look.colour,
            marker=look.marker, ls=LINES[models.index(str(model)) % 3], elinewidth=0.8, ms=3.2,
        )  # fmt: skip
        if engine == "hf":
            ax.annotate(str(model), (line["rows"].iloc[-1], middle[-1]), xytext=(6, 0),
                        va="center", **NOTE)  # fmt: skip
    style.log2_axis(ax, rows["rows"])
    ax.set_xlim(right=1.6 * rows["rows"].max())
    ax.set(xlabel="completions in a batch", ylabel="generated tokens/s", yscale="log")
    _plain_log(ax)
    ax.legend(handles=_handles(ENGINES, rows["series"]), loc="lower right")
    ax.set_ylim(bottom=ax.get_ylim()[0] / 3)  # room for the legend


def learner_step(ax: Axes, frame: pd.DataFrame) -> None:
    """Draw completion tokens trained on per second, by algorithm, with shares of matmul speed."""
    rows = frame[frame["benchmark"] == "learner_step"]
    own = rows[rows["series"] == rows["own"]].set_index("algorithm")
    if own.empty:
        style.say_empty(ax, "not measured")
        return
    shares = rows.pivot_table(index="algorithm", columns="series", values="ratio")
    looks = style.looks(own.index)
    for y, (name, look) in enumerate(looks.items()):
        high, middle, low = float(own["tokens"][name]) / _quartiles(own.loc[[name]])[:, 0]
        ax.barh(y, middle, color=look.colour, height=0.6, alpha=0.85)
        ax.errorbar(
            middle, y, xerr=[[middle - low], [high - middle]], color=style.BLACK, elinewidth=0.8
        )
        said = [
            f"{shares[series][name]:.0%} of {what}"
            for series, what in SHARES.items()
            if series in shares and name in shares.index and pd.notna(shares[series][name])
        ]
        ax.annotate("\n".join(said), (high, y), xytext=(4, 0), va="center", **NOTE)
    ax.set_yticks(range(len(looks)), [look.label for look in looks.values()])
    ax.set_ylim(len(looks) - 0.4, -0.6)
    ax.set_xlim(right=1.55 * ax.get_xlim()[1])
    ax.grid(visible=False)
    ax.xaxis.set_major_formatter(lambda value, _: _thousands(value))
    ax.set_xlabel("completion tokens/s of a learner step")


def handoff(ax: Axes, frame: pd.DataFrame) -> None:
    """Draw the time from the learner's weights to an engine's, by model size, and the limits."""
    rows = frame[(frame["benchmark"] == "handoff") & frame["series"].isin(list(ENGINES))]
    if rows.empty:
        style.say_empty(ax, "not measured")
        return
    models = by_size(rows["model"])
    for engine, line in rows.groupby("series"):
        look, at = ENGINES[str(engine)], [models.index(model) for model in line["model"]]
        low, middle, high = _quartiles(line) * 1e3
        ax.errorbar(
            at, middle, yerr=[middle - low, high - middle], color=look.colour, marker=look.marker,
            elinewidth=0.8, ls="none",
        )  # fmt: skip
        for x, value in zip(at, middle, strict=True):
            ax.annotate(f"{value:.3g}", (x, value), xytext=(6, 0), va="center", **NOTE)
        if pd.isna(line["limit_s"].iloc[0]):
            continue
        limit_ms = line["limit_s"].iloc[0] * 1e3
        ax.axhline(limit_ms, color=look.colour, lw=0.8, ls="--")
        ax.annotate(
            f"{limit_ms:g} ms aimed for", (0.02, limit_ms), xytext=(0, 2), color=look.colour,
            xycoords=("axes fraction", "data"), **NOTE,
        )  # fmt: skip
    ax.set_xticks(range(len(models)), models)
    ax.set_xlim(-0.5, len(models) - 0.5)
    ax.set(xlabel="model size", ylabel="weight hand-off (ms)", yscale="log")
    ax.set_ylim(bottom=ax.get_ylim()[0] / 1.5, top=1.8 * ax.get_ylim()[1])
    _plain_log(ax)
    ax.legend(handles=_handles(ENGINES, rows["series"]), loc="lower right")


def updates(ax: Axes, frame: pd.DataFrame) -> None:
    """Draw the time of a whole update of online DPO by model size, ratios and the ideal bound."""
    rows = frame[frame["algorithm"] == "online_dpo"]
    rows = rows[rows["benchmark"].isin(["update", "update_beside_trl", "update_overlapped"])]
    # If TRL was measured, the suite's own update of that benchmark is used.
    rows = rows.sort_values("benchmark").drop_duplicates(["model", "series"], keep="last")
    if rows.empty:
        style.say_empty(ax, "not measured")
        return
    models = by_size(rows["model"])
    beside = dict(zip(UPDATES, np.linspace(-0.34, 0.26, len(UPDATES)), strict=True))
    for (model, benchmark), group in rows.groupby(["model", "benchmark"]):
        found = {row["series"]: row for row in group.to_dict("records")}
        for name in filter(found.keys().__contains__, UPDATES):  # in one order every time
            look, x = UPDATES[name], models.index(str(model)) + beside[name]
            low, middle, high = _update_ms(found[name])
            ax.errorbar(
                x, middle, yerr=[[middle - low], [high - middle]], color=look.colour,
                marker=look.marker, elinewidth=0.8,
            )  # fmt: skip
            if name == "trl_online_dpo" and pd.notna(found[name]["ratio"]):
                ax.annotate(f"{found[name]['ratio']:.2f}x ours", (x, middle), xytext=(6, 0),
                            va="center", **NOTE)  # fmt: skip
        if benchmark == "update_overlapped" and {"overlapped", *BOUNDS} <= found.keys():
            x = models.index(str(model)) + beside["overlapped"]
            ideal = _update_ms(found["ideal"])[1]
            ax.plot([x - 0.1, x + 0.1], [ideal] * 2, color=style.BLACK, lw=1.0)
            split, whole = (found[arm]["ratio"] for arm in ("split", "whole"))
            ideal_gain = split / found["ideal"]["ratio"]
            below = min(_update_ms(found[name])[0] for name in ("overlapped", "whole", "ideal"))
            said = f"{split:.2f}x split\n{whole:.2f}x all\nideal {ideal_gain:.2f}x"
            ax.annotate(said, (x + 0.12, below), xytext=(0, -4), ha="right", va="top", **NOTE)
    ax.set(xlabel="model size", ylabel="time per update (ms)", yscale="log")
    ax.set_xticks(range(len(models)), models)
    ax.set_xlim(-0.7, len(models) - 0.5)
    ax.set_ylim(bottom=ax.get_ylim()[0] / 2)  # room for the ratios
    _plain_log(ax)
    handles = _handles(UPDATES, rows["series"])
    handles.append(Line2D([], [], color=style.BLACK, lw=1.0, label="ideal overlap"))
    ax.legend(handles=handles, loc="upper left")


def by_size(models: Iterable[str]) -> list[str]:
    """Return the distinct sizes, smallest first."""
    return sorted(set(models), key=overlap.parameters)


def _quartiles(rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the first quartile, median and third quartile of each row's rounds, [3, rows]."""
    return np.stack([np.quantile(times, [0.25, 0.5, 0.75]) for times in rows["rounds_s"]], axis=1)


def _update_ms(row: Mapping[Any, Any]) -> list[float]:
    """Return the quartiles of one update: a round may have several."""
    in_a_row = row["completions"] / row["rows"]
    return [float(q) * 1e3 / in_a_row for q in np.quantile(row["rounds_s"], [0.25, 0.5, 0.75])]


def _handles(looks: Mapping[str, Look], series: Iterable[str]) -> list[Line2D]:
    there = set(series)
    return [
        Line2D([], [], color=look.colour, marker=look.marker, ls="none", label=look.label)
        for name, look in looks.items()
        if name in there
    ]


def _plain_log(ax: Axes) -> None:
    """Label a logarithmic y axis at 1, 2, 5, 10, ..."""
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(lambda value, _: _thousands(value))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _thousands(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
