"""Figures 2 and 6, measured: what generation and training do while the other works.

Some updates from the middle of real Online DPO runs. Top: synchronous, engine and learner on cores
of their own, taking turns; middle: synchronous, one after the other on all cores; bottom:
asynchronous, one step off-policy. The numbers are the batches. The table gives each process's busy
share and its idle time per update (the bubble); a trace to open in chrome://tracing or Perfetto
lies beside the figure for each run.

The paper draws these schedules as schematics.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bench.experiments import arms
from plots.analysis import overlap
from plots.analysis.frames import Record
from plots.drawing import style, timelines, trace
from reproductions.options import Options, timed_arms
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce

UPDATES = 6


def some_updates(spans: pd.DataFrame) -> tuple[int, int]:
    """Return the first and the last of some updates of a run with no evaluation among them."""
    evaluated = sorted(spans[spans["name"] == "evaluate"]["step"])
    middle = (len(evaluated) - 1) // 2
    return evaluated[middle] + 1, min(evaluated[middle] + UPDATES, evaluated[middle + 1] - 1)


def draw(record: Record) -> Figure:
    """Draw one Gantt chart per arm, on one time axis, of the largest model."""
    series = _largest(record).final["algorithm"].unique()
    rows = [(name, arm) for name in series for arm in arms.ARMS]
    figure, axes = style.subplots(1, rows=len(rows), height=0.4 + len(rows), sharex=True)
    for ax, (name, arm) in zip(axes, rows, strict=True):
        spans = _one(record, arm, name)
        first, last = some_updates(spans)
        timelines.gantt(ax, spans, first, last)
        title = timelines.LABELS[arm].capitalize()
        ax.set_title(title if name == series[0] else f"{title}: {name}")
    axes[-1].set_xlabel(f"time (ms); {last - first + 1} updates each")
    timelines.phase_key(axes[0])
    style.footer(figure, _largest(record).final)
    return figure


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return busy share and bubble of each process."""
    del options
    parts = []
    for arm in arms.ARMS:
        spans = _one(record, arm)
        parts.append(overlap.busy(spans, *some_updates(spans)).assign(arm=arm))
    table = pd.concat(parts, ignore_index=True)
    return table[["arm", "process", "busy", "bubble_s", "update_s"]]


def export(record: Record, directory: Path) -> list[Path]:
    """Write one Chrome trace per arm."""
    return [
        trace.write(_one(record, arm), directory / f"fig_schedule_{arm}.trace.json")
        for arm in arms.ARMS
    ]


def _largest(record: Record) -> Record:
    return record.where(model=overlap.sizes(record)[-1])


def _one(record: Record, arm: str, algorithm: str | None = None) -> pd.DataFrame:
    """Return the spans of the largest model's first seed of an arm, of the first algorithm."""
    largest = _largest(record)
    algorithm = algorithm or largest.final["algorithm"].iloc[0]
    spans = largest.where(timed=arm, algorithm=algorithm).spans
    first = spans.sort_values("seed")["run_id"].iloc[0]
    return pd.DataFrame(spans[spans["run_id"] == first])


REPRODUCTION = Reproduction(
    name="fig_schedule",
    caption=__doc__,
    grid=timed_arms("online_dpo"),
    draw=draw,
    tabulate=tabulate,
    export=export,
    every_seed=False,
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
