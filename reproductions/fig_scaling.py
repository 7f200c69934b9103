"""Figure 5: does a larger policy, or a larger reward model, withstand stale data better?

Online DPO on data up to N - 1 updates stale. Left: policies of all the preset's sizes with one
reward model, the preset's. Right: the smallest policy with reward models of all sizes. Top: final
gold win rate against final KL to the SFT model of the policy's own size, thin lines the ways there;
bottom: the gain over SFT that is kept, against N. The table has off-policy tolerance (OPT) by size
and, on-policy, the area under the learning curve and the KL in nats beside the perplexities under
the size's own SFT model.

The paper (Pythia 410M to 2.8B, TL;DR, one run per point): points of larger policies lie closer
together, at 2.8B all are near the best. Larger reward models are over-optimised less, but the
policies are no more robust. Its KL axis is a perplexity under another SFT model for each size.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

import math

import pandas as pd
from matplotlib.figure import Figure

from bench.config import RunConfig
from bench.staleness import reuse
from plots.analysis import estimands, sizes, stats
from plots.analysis.frames import Record
from plots.analysis.sizes import SWEPT
from plots.drawing import panels, style
from plots.drawing import sizes as drawn
from reproductions.options import Options
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce

ON_POLICY = ["win_rate_area", "kl_nats", "perplexity", "perplexity_diluted"]


def grid(options: Options) -> list[RunConfig]:
    """Return algorithms x N x (policy sizes, and reward-model sizes of the first policy)."""
    preset, found = options.preset, {}
    first = preset.models[0]
    pairs = [(size, preset.stage(first).reward_model or first) for size in preset.models]
    pairs += [(first, size) for size in preset.models]
    for name in options.algorithms or ("online_dpo",):
        for model, reward_model in pairs:
            for n in options.n_values or preset.n_values:
                run = preset.run_config(name, reuse(n), model=model, reward_model=reward_model)
                found[run.config_hash()] = run
    return list(found.values())


def draw(record: Record) -> Figure:
    """Draw a column for each sweep."""
    figure, axes = style.subplots(2, rows=2, height=4.8)
    for at, swept in enumerate(SWEPT):
        drawn.frontier(axes[at], record, swept)
        drawn.retained(axes[2 + at], record, swept)
        axes[2 + at].set_title("How much gain is kept?")
    axes[0].set_title("Do larger policies stay closer together?")
    axes[1].set_title("Do larger reward models buy more for their KL?")
    panels.series_key(axes[2], record, "left")
    style.footer(figure, record.final)
    return figure


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return OPT and N80 by algorithm, sweep and size; on-policy, area, KL and perplexities."""
    del options
    rows = []
    for name in record.final["algorithm"].unique():
        for swept in SWEPT:
            for size, arm in sizes.arms(record.where(algorithm=name), swept).items():
                found = estimands.tolerance(arm, name)
                opt = found.opt or stats.Interval(math.nan, math.nan, math.nan, 0)
                rows.append(
                    {
                        "algorithm": name,
                        "sweep": swept,
                        "size": size,
                        "opt": opt.estimate,
                        "lo": opt.lo,
                        "hi": opt.hi,
                        "n80": found.n80_text or found.reason,
                        **arm.where(n=1).final[ON_POLICY].mean(),
                        "seeds": arm.final["seed"].nunique(),
                    }
                )
    return pd.DataFrame(rows)


REPRODUCTION = Reproduction(
    name="fig_scaling",
    caption=__doc__,
    grid=grid,
    draw=draw,
    tabulate=tabulate,
    presets=(
        "smoke",
        "worth",
        "small",
        "paper",
    ),  # at tiny, policies of all sizes end at a ceiling,
    ranks=("model", "reward_model"),
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
