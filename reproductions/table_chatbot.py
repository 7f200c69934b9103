"""Table of Figure 9: the chatbot's win rate, length, KL and compute time.

A row for SFT, one for each arm of `fig_chatbot.py`, whose runs these are, and one for the
references. Win rates as they are and at equal length, with 95% intervals over seeds; the mean
length of completions in tokens; KL to the SFT model; training time without evaluation.

The paper (Llama-3.1-8B, No Robots, one run each; win rate, mean length, minutes): SFT 31.8%, 198;
synchronous 57.2%, 286, 230; asynchronous 57.2%, 291, 142; human answers: length 180.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

from typing import Any

import pandas as pd

from plots.analysis.frames import Record
from plots.analysis.lengths import AT_EQUAL_LENGTH
from plots.analysis.stats import win_rate_interval
from plots.drawing.timelines import SHORT
from reproductions.fig_chatbot import GRID, PRESETS, TASKS
from reproductions.options import Options
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce

MEANS = {
    "completion_tokens_mean": "mean_tokens",
    "kl_nats": "kl_nats",
    "wall_s": "training_s",
}


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return one row per model; what was not measured is NaN."""
    del options
    ordered = record.curves.sort_values("step")
    start, end = (pd.DataFrame(ordered.groupby("run_id").nth(at)) for at in (0, -1))
    final = record.final.drop(columns="wall_s", errors="ignore")
    final = final.merge(end[["run_id", "wall_s"]], on="run_id")
    # All arms of a seed start from the same SFT model.
    rows = [_row("SFT", start.drop_duplicates("seed").assign(kl_nats=0.0, wall_s=float("nan")))]
    rows += [
        _row(label.replace("\n", " "), final[final["timed"] == arm]) for arm, label in SHORT.items()
    ]
    rows.append({"model": "reference", "mean_tokens": final["reference_tokens_mean"].mean()})
    table = pd.DataFrame(rows)
    return table.assign(seeds=table["seeds"].fillna(0).astype(int))


def _row(name: str, runs: pd.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = {"model": name}
    for column, short in (("win_rate", "win_rate"), (AT_EQUAL_LENGTH, "at_equal_length")):
        values = runs[column].dropna() if column in runs else ()
        interval = win_rate_interval(values)
        found |= {short: interval.estimate, f"{short}_lo": interval.lo, f"{short}_hi": interval.hi}
    found |= {short: runs[column].mean() for column, short in MEANS.items()}
    return found | {"seeds": runs["seed"].nunique()}


REPRODUCTION = Reproduction(
    name="table_chatbot",
    caption=__doc__,
    grid=GRID,
    tabulate=tabulate,
    presets=PRESETS,
    tasks=TASKS,
    ranks=("timed",),
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
