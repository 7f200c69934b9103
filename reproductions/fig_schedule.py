"""Figures 2 and 6, measured: what generation and training do while the other works.

Some updates from the middle of real Online DPO runs. Top: synchronous, engine and learner on cores
of their own, taking turns; middle: synchronous, one after the other on all cores; bottom:
asynchronous, one step off-policy. The numbers are the batches. The table gives each process's busy
share and its idle time per update (the bubble); a trace to open in chrome://tracing or Perfetto
lies beside the figure for each run.

The paper draws these schedules as schematics.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

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


def some_updates(spans: pd.DataFrame) -> tuple[int, int] | None:
    """Return the first and the last of some updates of a run with no evaluation among them.

    None: the run ended before there were any.
    """
    evaluated = sorted(spans[spans["name"] == "evaluate"]["step"])
    if len(evaluated) < 2:
        return None
    middle = (len(evaluated) - 1) // 2
    first = evaluated[middle] + 1
    last = min(evaluated[middle] + UPDATES, evaluated[middle + 1] - 1)
    return (first, last) if overlap.has_window(spans, first, last) else None


def draw(record: Record) -> Figure:
    """Draw one Gantt chart per arm, on one time axis, of the largest model.

    In the place of an arm that was not run or has only diverged runs the figure says so.
    """
    largest = _largest(record)
    series = largest.final["algorithm"].unique()
    rows = [(name, arm) for name in series for arm in arms.ARMS]
    figure, axes = style.subplots(1, rows=len(rows), height=0.4 + len(rows), sharex=True)
    updates = UPDATES
    for ax, (name, arm) in zip(axes, rows, strict=True):
        title = timelines.LABELS[arm].capitalize()
        ax.set_title(title if name == series[0] else f"{title}: {name}")
        if (spans := _one(record, arm, name)) is None:
            style.say_empty(ax, overlap.why_missing(largest, name, arm))
            continue
        first, last = _updates(spans)
        timelines.gantt(ax, spans, first, last)
        updates = last - first + 1
    axes[-1].set_xlabel(f"time (ms); {updates} updates each")
    timelines.phase_key(axes[0])
    style.footer(figure, largest.final)
    return figure


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return busy share and bubble of each process."""
    del options
    parts = [
        overlap.busy(spans, *_updates(spans)).assign(arm=arm)
        for arm in arms.ARMS
        if (spans := _one(record, arm)) is not None
    ]
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    return table[["arm", "process", "busy", "bubble_s", "update_s"]]


def export(record: Record, directory: Path) -> list[Path]:
    """Write one Chrome trace per arm."""
    return [
        trace.write(spans, directory / f"fig_schedule_{arm}.trace.json")
        for arm in arms.ARMS
        if (spans := _one(record, arm)) is not None
    ]


def _largest(record: Record) -> Record:
    return record.where(model=overlap.sizes(record)[-1])


def _updates(spans: pd.DataFrame) -> tuple[int, int]:
    found = some_updates(spans)
    assert found is not None  # of a run that ``_one`` chose
    return found


def _one(record: Record, arm: str, algorithm: str | None = None) -> pd.DataFrame | None:
    """Return the spans of the largest model's first seed of an arm, of the first algorithm.

    It is the first of the seeds that have updates to draw; None: there is none.
    """
    largest = _largest(record)
    algorithm = algorithm or largest.final["algorithm"].iloc[0]
    spans = largest.where(timed=arm, algorithm=algorithm).spans
    if spans.empty:
        return None
    for _, run in spans.groupby(["seed", "run_id"]):
        if some_updates(run) is not None:
            return pd.DataFrame(run)
    return None


REPRODUCTION = Reproduction(
    name="fig_schedule",
    caption=__doc__,
    grid=timed_arms("online_dpo"),
    draw=draw,
    tabulate=tabulate,
    export=export,
    every_seed=False,
    ranks=("timed",),
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
