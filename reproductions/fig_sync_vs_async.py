"""Figure 1: asynchronous Online DPO against synchronous, in win rate and wall-clock time.

Three arms with the same engine: synchronous with engine and learner on cores of their own, taking
turns (split, as the paper's); synchronous with one after the other on all cores (whole); and
asynchronous, on the split cores, one step off-policy. Left: gold win rate over training time;
middle: final win rate, with the margin within which it counts as equal; right: where an update's
time goes, and the ideal bound max(generate, train) + rest. Timed runs have the machine to
themselves.

The paper (Pythia 410M to 2.8B, TL;DR, four A100): equal win rate, 25% faster at 2.8B. It compares
Hugging Face generation with vLLM, so its speed-up is that of asynchrony and of the engine.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

import pandas as pd
from matplotlib.figure import Figure

from plots.analysis import overlap, registry
from plots.analysis.frames import Record
from plots.analysis.stats import t_interval
from plots.drawing import style, timelines
from reproductions.options import Options, timed_arms
from reproductions.reproduction import CLAIMS, Reproduction
from reproductions.run import reproduce

ALGORITHM = "online_dpo"


def draw(record: Record) -> Figure:
    """Draw the three panels, for the largest model."""
    size = overlap.sizes(record)[-1]
    one = record.where(model=size)
    equal = next(claim for claim in registry.load(CLAIMS) if claim.id == "C9")
    figure, (left, middle, right) = style.subplots(3, ratios=(1.1, 0.9, 1.2))
    timelines.win_rate_over_time(left, one)
    timelines.final_by_arm(middle, one, equal.margin)
    names = one.final["algorithm"].unique()
    first, *others = (overlap.arms(one, name, size) for name in names)
    if first.empty:
        first = overlap.medians(one, names[0], size)
    timelines.update_bars(right, first, [table for table in others if not table.empty])
    timelines.phase_key(right, above=False)
    left.set_title("Does asynchrony get there sooner?")
    middle.set_title("As far?")
    right.set_title("Where does an update's time go?")
    style.footer(figure, one.final)
    return figure


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return speed-ups, ideal bound, overlap efficiency and what is lost, per model size."""
    del options
    rows = []
    for size in overlap.sizes(record):
        table = overlap.arms(record, ALGORITHM, size)
        if table.empty:
            continue
        found = pd.concat([overlap.gains(table), overlap.losses(table).add_prefix("lost_")], axis=1)
        for name, values in found.items():
            interval = t_interval(values)
            rows.append(
                {
                    "model": size,
                    "quantity": str(name),
                    "estimate": interval.estimate,
                    "lo": interval.lo,
                    "hi": interval.hi,
                    "seeds": interval.n,
                }
            )
    return pd.DataFrame(rows)


REPRODUCTION = Reproduction(
    name="fig_sync_vs_async",
    caption=__doc__,
    grid=timed_arms(ALGORITHM),
    draw=draw,
    tabulate=tabulate,
    ranks=("timed",),
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
