"""Beyond the paper: how much of "PPO and RLOO are fragile" is the choice of old log-probs?

A loss with a ratio needs log-probs to compare with. Three are in use: those of the engine at
sampling (behaviour), as in the paper's sweeps over N; those that the learner computes at the start
of the step (proximal), as in the authors' asynchronous trainers and, unsaid, in other frameworks,
so that stale completions are not corrected for; and the latter with an importance weight for what
lies between the two (decoupled). PPO and RLOO are trained with each on data up to N - 1 updates
stale. Beside them are three losses on whole completions that clip nothing, since the clip may be
what makes the two fragile: RLOO with its ratio as it is (vanilla), CoPG, and TOPR. The paper's
appendix compares these RLOO variants alone. Hyper-parameters are those tuned at N = 1 with
behaviour log-probs; at N = 1 all three choices are the same but for rounding.

Top: PPO; bottom: losses on whole completions. Left: final gold win rate against N; middle: mean win
rate over training; right: the gain that is kept on the way (OPT).
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from bench import algorithms as registry
from bench.config import RunConfig
from bench.experiments.preset import Preset
from bench.staleness import reuse
from plots.analysis import tolerances
from plots.analysis.frames import Record
from plots.drawing import panels, style
from reproductions.options import Options
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce

WITH_RATIO = ("ppo", "rloo")
WITHOUT_CLIP = ("rloo_vanilla", "copg", "topr")
OLD_LOGPROBS = ("behaviour", "proximal", "decoupled")


def grid(options: Options) -> list[RunConfig]:
    """Return losses x N, each loss that clips a ratio with all three old log-probs.

    ``--algorithms`` replaces the losses.
    """
    cells = []
    for name in options.algorithms or (*WITH_RATIO, *WITHOUT_CLIP):
        for n in options.n_values or options.preset.n_values:
            run = options.preset.run_config(name, reuse(n))
            given = run.algorithm.identity()
            cells += [
                replace(run, algorithm=registry.build(name, {**given, "old_logprobs": which}))
                for which in (OLD_LOGPROBS if clips(run) else ())
            ] or [run]
    return cells


def clips(run: RunConfig) -> bool:
    """Return whether the loss clips a ratio."""
    return getattr(run.algorithm, "clip_range", None) is not None


def series(run: RunConfig, preset: Preset) -> tuple[str, ...]:
    """Return the loss, with its old log-probs where it clips a ratio to them."""
    del preset
    name = run.algorithm.name
    return (f"{name} ({run.algorithm.old_logprobs})" if clips(run) else name,)


def draw(record: Record) -> Figure:
    """Draw a row for PPO and one for losses on whole completions."""
    figure, axes = style.subplots(3, ratios=(1, 1, 1.2), rows=2, height=5.0)
    is_ppo = record.final["algorithm"].str.startswith("ppo")
    for row, chosen in zip((axes[:3], axes[3:]), (is_ppo, ~is_ppo), strict=True):
        final = record.final[chosen]
        one = replace(record, final=final.assign(algorithm=final["algorithm"].map(short)))
        panels.against_n(row[0], one, labelled=False)
        panels.against_n(row[1], one, "win_rate_area", labelled=False)
        panels.tolerance_bars(row[2], one, "win_rate_area")
    axes[0].set_title("PPO: which old log-probs?")
    axes[3].set_title("RLOO: which, or no clip?")
    axes[1].set_title("And on the way there?")
    axes[2].set_title("How much gain is kept?")
    style.key(figure, record.final.assign(algorithm=record.final["algorithm"].map(short)))
    style.footer(figure, record.final)
    return figure


def short(name: str) -> str:
    """Return the old log-probs alone of a series that has them in brackets."""
    return name.partition(" (")[2].removesuffix(")") or name


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return each series' off-policy tolerance with its interval, by outcome."""
    del options
    return tolerances.table(record)


REPRODUCTION = Reproduction(
    name="fig_old_logprobs",
    caption=__doc__,
    grid=grid,
    series=series,
    draw=draw,
    tabulate=tabulate,
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
