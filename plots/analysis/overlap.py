"""The gain of overlap and the losses, of timed runs, per model size and seed.

A synchronous update takes g + t + s: generate, train (score and learn), and the rest (weights and
batches from one process to the other). An overlapped one takes at least max(g, t) + s. The two
baselines are ``split``, on the same cores taking turns, and ``whole``, on all cores.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd

from bench.types import Timed
from plots.analysis.frames import Record

ARMS = get_args(Timed)


def sizes(record: Record) -> list[str]:
    """Return the record's models from the smallest to the largest, by the size in their name."""
    return sorted(record.final["model"].unique(), key=parameters)


def parameters(model: str) -> float:
    """Return a size's number of parameters, as its name says, or 0."""
    unit = {"k": 1e3, "m": 1e6, "b": 1e9}.get(model[-1])
    return float(model[:-1]) * unit if unit else 0.0


def arms(record: Record, algorithm: str, model: str | None = None) -> pd.DataFrame:
    """Return one row per seed that has all three arms: median seconds per update and phase.

    Of the largest model unless another is named; empty where no seed has all arms.

    Columns are (arm, phase), phases as in ``frames.updates``. Times of several updates of a run
    are not replicates; seeds are.
    """
    wide = medians(record, algorithm, model)
    if wide.empty or not set(ARMS) <= set(wide.columns.get_level_values(0)):
        return pd.DataFrame()
    return wide[list(ARMS)].dropna()


def medians(record: Record, algorithm: str, model: str | None = None) -> pd.DataFrame:
    """Return what ``arms`` returns, with the arms that there are; NaN where a seed lacks one."""
    frame = record.updates
    if frame.empty:
        return pd.DataFrame()
    model = model or sizes(record)[-1]
    chosen = frame[(frame["algorithm"] == algorithm) & (frame["model"] == model)]
    phases = ["update_s", "generate_s", "wait_s", "score_s", "learn_s", "publish_s"]
    found = chosen.pivot_table(values=phases, index="seed", columns="timed", aggfunc="median")
    return found.swaplevel(axis="columns")


def why_missing(record: Record, algorithm: str, arm: str) -> str:
    """Return why an arm has no run to show: not run, diverged, or too short."""
    runs = record.where(algorithm=algorithm, timed=arm).final
    if runs.empty:
        return "not run"
    return "diverged" if (runs["status"] == "diverged").all() else "too few updates"


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """Return per seed, of a table of ``arms``: speed-ups, the ideal bound and the efficiency.

    ``speed_up`` and ``speed_up_whole`` are the synchronous time per update over the overlapped, by
    baseline; ``time_saved`` is the share of the split baseline's time. ``ideal`` is the speed-up of
    an update of max(g, t) + s. ``efficiency`` is (sync - async) / (sync - ideal), against split; it
    may exceed 1, since some of the rest overlaps too.
    """
    sync, overlapped = table["split"], table["overlapped"]["update_s"]
    g, t = sync["generate_s"], sync["score_s"] + sync["learn_s"]
    rest = sync["update_s"] - g - t
    ideal_s = np.maximum(g, t) + rest
    return pd.DataFrame(
        {
            "speed_up": sync["update_s"] / overlapped,
            "speed_up_whole": table["whole"]["update_s"] / overlapped,
            "time_saved": 1 - overlapped / sync["update_s"],
            "ideal": sync["update_s"] / ideal_s,
            "efficiency": (sync["update_s"] - overlapped) / (sync["update_s"] - ideal_s),
            "sync_s": sync["update_s"],
            "ideal_s": ideal_s,
            "overlapped_s": overlapped,
        }
    )


def losses(table: pd.DataFrame) -> pd.DataFrame:
    """Return per seed where the overlapped update loses against the ideal one, in seconds.

    ``slower`` is what score and learn take longer than when the engine stands still (caches, memory
    bandwidth, the interpreter lock); ``waiting`` is what the learner waits beyond the ideal's own
    wait max(g, t) - t; ``hand_off`` is what publishing costs beyond the ideal's rest. They add up
    to the difference of the overlapped update from the ideal one.
    """
    sync, overlapped = table["split"], table["overlapped"]
    t = sync["score_s"] + sync["learn_s"]
    g = sync["generate_s"]
    slower = overlapped["score_s"] + overlapped["learn_s"] - t
    waiting = overlapped["wait_s"] - np.maximum(g - t, 0)
    total = overlapped["update_s"] - gains(table)["ideal_s"]
    return pd.DataFrame(
        {"slower": slower, "waiting": waiting, "hand_off": total - slower - waiting}
    )


def window(spans: pd.DataFrame, first: int, last: int) -> tuple[float, float]:
    """Return when update ``first`` of one run began and when update ``last`` ended."""
    publish = spans[(spans["process"] == "learner") & (spans["name"] == "publish")]
    ends = publish.set_index("step")["end_s"]  # of the version, which is one more than the update
    return float(ends[first]), float(ends[last + 1])


def has_window(spans: pd.DataFrame, first: int, last: int) -> bool:
    """Say whether one run has updates ``first`` to ``last``."""
    publish = spans[(spans["process"] == "learner") & (spans["name"] == "publish")]
    return first <= last and {first, last + 1} <= set(publish["step"])


def busy(spans: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    """Return one row per process of one run: how it spent the updates ``first`` to ``last``.

    The window is from the end of update ``first - 1`` to the end of update ``last``, without an
    evaluation in it. ``busy`` is the share of it that the process works (waiting and restarting are
    no work), ``bubble_s`` the time per update in which it does not.
    """
    start, end = window(spans, first, last)
    rows = []
    for process, own in spans.groupby("process"):
        work = own[~own["name"].isin(["wait", "restart", "evaluate"])]
        worked = float(
            (work["end_s"].clip(upper=end) - work["start_s"].clip(lower=start)).clip(lower=0).sum()
        )
        rows.append(
            {
                "process": str(process),
                "busy": worked / (end - start),
                "bubble_s": (end - start - worked) / (last - first + 1),
                "update_s": (end - start) / (last - first + 1),
            }
        )
    return pd.DataFrame(rows)
