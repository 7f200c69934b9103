"""Beyond the paper: how much smaller must the learning rate be when data are stale?

RLOO and Online DPO on data that are always S updates old (``lag(S)``, S = 1, 4, 16, 64), at a
quarter to eight times the learning rate that was tuned on-policy. Left, by loss: final gold win
rate by lag and rate, mean over seeds; a line marks the largest stable rate, beyond which a policy
keeps less than half of the gain that the best rate has at that lag. Right: that rate against lag,
seeds as dots and hollow where no rate was too large, beside the slope of constant rate times lag.

Song et al. (arXiv:2607.01083, GRPO) state that the bias of stale data grows as rate times lag, so
that the largest stable rate falls as 1 / S where staleness is what limits it.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from bench.config import RunConfig
from bench.staleness import lag
from plots.analysis import rates
from plots.analysis.frames import Record
from plots.analysis.stats import t_interval
from plots.drawing import rates as drawn
from plots.drawing import style
from reproductions.options import Options
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce

LAGS = (1, 4, 16, 64)
TIMES_TUNED = (0.25, 0.5, 1, 2, 4, 8)


def grid(options: Options) -> list[RunConfig]:
    """Return losses x lags x rates; ``--n`` replaces the lags.

    A lag of as many updates as there are would leave nothing to learn from but the SFT model.
    """
    cells = []
    for name in options.algorithms or ("rloo", "online_dpo"):
        for steps in options.n_values or LAGS:
            run = options.preset.run_config(name, lag(steps), lr_schedule="per_update")
            if steps < run.updates:
                cells += [replace(run, learning_rate=x * run.learning_rate) for x in TIMES_TUNED]
    return cells


def draw(record: Record) -> Figure:
    """Draw a map per loss, and the largest stable rate of all against lag."""
    looks = style.looks_of(record.final)
    figure, (*maps, last) = style.subplots(len(looks) + 1, height=2.5)
    for ax, (name, look) in zip(maps, looks.items(), strict=True):
        drawn.win_rate_map(ax, record, name)
        ax.set_title(look.label)
    drawn.stable_rates(last, record)
    last.set_title("Up to which rate is it stable?")
    style.footer(figure, record.final)
    return figure


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return the largest stable rate by loss and lag: geometric mean over seeds."""
    del options
    rows = []
    for name in record.final["algorithm"].unique():
        for steps, runs in rates.largest_stable(record, name).groupby("n"):
            interval = t_interval(runs["log2_rate"])
            rows.append(
                {
                    "algorithm": name,
                    "lag": steps,
                    "stable_rate": 2**interval.estimate,
                    "lo": 2**interval.lo,
                    "hi": 2**interval.hi,
                    "lower_bounds": int(runs["is_bound"].sum()),
                    "seeds": interval.n,
                }
            )
    return pd.DataFrame(rows)


REPRODUCTION = Reproduction(
    name="fig_learning_rate",
    caption=__doc__,
    grid=grid,
    draw=draw,
    tabulate=tabulate,
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
