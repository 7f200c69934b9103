"""Figure 8: where training is the bottleneck, do better pairs need half as many updates?

Asynchronous Online DPO, one step off-policy: K = 2 completions of each prompt, or K = 4 of which
the best and the worst are trained on, for half as many updates. Half as many updates at the same
learning rate have half of its budget, so K = 4 also runs at twice the rate. The control, a random
pair of four, is what half as many updates of K = 2 would do. A row per policy size. Left: gold win
rate over updates; middle: over time as recorded, an update taking the longer of generation and
training; right: win rate against KL to the SFT model.

The paper (Pythia 410M, 1B, 2.8B, TL;DR, one run per line): K = 4 ends at the win rate of K = 2 in
half the updates, at 2.8B in less than half the time, and at a higher KL. It does not say whether
the rate was changed.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from bench.config import RunConfig
from bench.experiments.preset import Preset
from plots.analysis import arms
from plots.analysis.frames import Record
from plots.drawing.arms import win_rate_against
from reproductions.options import Options, one_step_stale
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce


def grid(options: Options) -> list[RunConfig]:
    """Return algorithms x sizes x arms; ``--algorithms`` replaces Online DPO."""
    cells = []
    for name in options.algorithms or ("online_dpo",):
        for model in options.preset.models:
            two, four, random = (
                one_step_stale(options.preset, name, model, completions_per_prompt=k, pair=pair)
                for k, pair in ((2, "best_and_worst"), (4, "best_and_worst"), (4, "random"))
            )
            faster = replace(four, learning_rate=2 * four.learning_rate)
            cells += [two, *map(_half, (four, faster, random))]
    return cells


def _half(config: RunConfig) -> RunConfig:
    """Return a run of half as many updates, with as many evaluations."""
    every = max(1, config.evaluation.every // 2)
    evaluation = replace(config.evaluation, every=every)
    return replace(config, updates=config.updates // 2, evaluation=evaluation)


def arm(config: RunConfig, preset: Preset) -> str:
    """Return K, with what else differs from K = 2."""
    usual = one_step_stale(preset, config.algorithm.name, config.stage.model)
    parts = [f"K = {config.algorithm.completions_per_prompt}"]
    if "pair" in config.algorithm.identity():
        parts.append("random pair")
    if config.learning_rate != usual.learning_rate:
        parts.append(f"rate x{config.learning_rate / usual.learning_rate:g}")
    return ", ".join(parts)


def draw(record: Record) -> Figure:
    """Draw the three panels of each size."""
    titles = {
        "step": "As far in half the updates?",
        "run_s": "In less time, on this machine?",
        "kl_nats": "At what KL?",
    }
    return win_rate_against(record, titles)


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return what each arm reached, and its times."""
    del options
    return arms.summary(record)


REPRODUCTION = Reproduction(
    name="fig_training_bound",
    caption=__doc__,
    grid=grid,
    arm=arm,
    draw=draw,
    tabulate=tabulate,
    ranks=("arm",),
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
