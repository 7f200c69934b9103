"""Figure 7: where generation is the bottleneck, does more training on each batch pay?

Asynchronous Online DPO, one step off-policy, takes T optimiser steps on every batch, T = 1, 2, 3.
A row per policy size. Left: gold win rate over episodes, which is its course over time where
generation takes longer than T steps; middle: over time as recorded, an update taking the longer of
generation and training; right: win rate against KL to the SFT model. The middle says which of the
two it is at T = 1.

The paper (Pythia 410M, 1B, 2.8B, TL;DR, one run per line): T > 1 raises the win rate per episode at
410M and 1B, and costs more KL for the same win rate at every size.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

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

EPOCHS = (1, 2, 3)


def grid(options: Options) -> list[RunConfig]:
    """Return algorithms x sizes x T; ``--algorithms`` replaces Online DPO."""
    return [
        one_step_stale(options.preset, name, model, epochs=epochs)
        for name in options.algorithms or ("online_dpo",)
        for model in options.preset.models
        for epochs in EPOCHS
    ]


def arm(config: RunConfig, preset: Preset) -> str:
    """Return T."""
    del preset
    return f"T = {config.algorithm.epochs}"


def draw(record: Record) -> Figure:
    """Draw the three panels of each size."""
    titles = {
        "episodes": "More win rate per episode?",
        "run_s": "Per second, on this machine?",
        "kl_nats": "At what KL?",
    }
    return win_rate_against(record, titles)


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return what each T reached, and its times."""
    del options
    return arms.summary(record)


REPRODUCTION = Reproduction(
    name="fig_generation_bound",
    caption=__doc__,
    grid=grid,
    arm=arm,
    draw=draw,
    tabulate=tabulate,
    ranks=("arm",),
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
