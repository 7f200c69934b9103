"""Beyond the paper: what happens to the gold win rate when a loss is pushed on?

All losses on-policy (N = 1), each twice pushed beyond its tuning: at twice the tuned learning rate,
and for four times the updates. Top: gold win rate; bottom: proxy reward; both against KL to the SFT
model, over all of training. Colours are sizes of reward models, the policy's size is fixed; thin
lines are seeds, thick ones their mean, and a dot is where the mean gold win rate is highest. A loss
is over-optimised where gold falls from there on while the proxy still rises.

The table has, by loss and push, the fall of the gold win rate from its peak and the proxy's rise
over the same stretch, and in how many seeds gold fell by .03 or more while the proxy rose. Each
seed's peak is where the other seeds' mean is highest, so that luck at one evaluation is not counted
as a fall.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from bench.config import RunConfig
from bench.staleness import reuse
from plots.analysis.frames import Record
from plots.analysis.overoptimisation import falls, over_optimised
from plots.analysis.stats import t_interval
from plots.drawing import overoptimisation, panels, style
from reproductions.options import Options
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce

LOSSES = ("ppo", "rloo", "online_dpo", "best_of_2")
RATE, LONGER = 2, 4  # times the tuned learning rate; times the preset's updates


def grid(options: Options) -> list[RunConfig]:
    """Return losses x reward-model sizes x the two pushes, as often evaluated as the preset's."""
    preset, cells = options.preset, []
    for name in options.algorithms or LOSSES:
        for size in preset.models:
            tuned = preset.run_config(name, reuse(1), reward_model=size)
            cells += [
                replace(tuned, learning_rate=RATE * tuned.learning_rate),
                replace(
                    tuned,
                    updates=LONGER * tuned.updates,
                    evaluation=replace(tuned.evaluation, every=LONGER * tuned.evaluation.every),
                ),
            ]
    return cells


def draw(record: Record) -> Figure:
    """Draw a column per loss: gold win rate above, proxy reward below."""
    looks = style.looks_of(record.final)
    figure, axes = style.subplots(len(looks), rows=2, height=4.4)
    gold, proxy = axes[: len(looks)], axes[len(looks) :]
    for above, below, (name, look) in zip(gold, proxy, looks.items(), strict=True):
        one = record.where(algorithm=name)
        overoptimisation.trajectories(above, one, "win_rate")
        overoptimisation.trajectories(below, one, "reward_mean")
        above.sharey(gold[0])
        below.sharey(proxy[0])
        below.sharex(above)
        above.set_title(look.label)
        below.set_xlabel(panels.Y_LABELS["kl_nats"])
        above.label_outer()
        below.label_outer()
    gold[0].set_ylabel(panels.Y_LABELS["win_rate"])
    proxy[0].set_ylabel(panels.Y_LABELS["reward_mean"])
    panels.say_if_one_seed(gold[0], record)
    overoptimisation.key(proxy[-1], record, f"{RATE}x learning rate", f"{LONGER}x updates")
    figure.legend(loc="outside upper center", ncols=5)
    style.footer(figure, record.final)
    return figure


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return fall from the peak and proxy's rise by arm, and in how many seeds both are clear."""
    del options
    rows = []
    keys = ["algorithm", "reward_model", "learning_rate", "updates"]
    for key, runs in falls(record).groupby(keys, sort=False):
        fall = t_interval(runs["fall"])
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "peak": runs["peak"].mean(),
                "at_update": runs["peak_step"].median(),
                "fall": fall.estimate,
                "lo": fall.lo,
                "hi": fall.hi,
                "proxy_rise": runs["proxy_rise"].mean(),
                "over_optimised": f"{over_optimised(runs).sum()} of {len(runs)}",
            }
        )
    return pd.DataFrame(rows)


REPRODUCTION = Reproduction(
    name="fig_overoptimisation",
    caption=__doc__,
    grid=grid,
    draw=draw,
    tabulate=tabulate,
    presets=("smoke", "worth", "small", "paper"),  # tiny's reward model is nearly the gold judge
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
