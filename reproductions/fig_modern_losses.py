"""Beyond the paper: do the losses and corrections made for stale data keep more of their gain?

Losses that came after the paper, beside its PPO, RLOO and Online DPO, on data of two kinds: N
mini-batches per round (``reuse(N)``, filled) and always N / 2 updates old (``lag(N / 2)``, hollow),
which has about the same mean age. Panels: the share of the gain on fresh data, in mean win rate
over training, that a loss keeps, against the age of what it trains on in optimiser steps, mean as
points and largest as the end of a line. Below: mean and final win rate over the stale cells that
all have, best first; those joined by a bar do not differ beyond chance.

Corrections are GRPO's. At T = 1 step per batch a decoupled loss clips nothing: the policy of its
ratio is that of the step's start. So they are run at T = 2 as well, where an update is two steps.
On fresh data they say nothing: that cell is run once and is of all of them. At K = 2 dividing by
the group's deviation leaves only a sign, so losses that do it are run at K = 4 as well, with half
as many prompts. The ranking is of T = 1 and K = 2.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from bench.config import RunConfig
from bench.experiments.preset import Preset
from bench.staleness import Schedule, lag, reuse
from plots.analysis import staleness
from plots.analysis.frames import Record
from plots.analysis.registry import COLUMNS
from plots.drawing import staleness as drawn
from reproductions.options import Options
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce
from reproductions.variants import FAMILIES, RANKED, VARIANTS, Variant

N_VALUES = (1, 4, 16, 64)
FEW = ("grpo", "grpo (token TIS)")  # are enough where there are no verdicts


def grid(options: Options) -> list[RunConfig]:
    """Return each variant under each of its schedules, what variants have in common once.

    ``--algorithms`` keeps the variants of these losses, or adds a loss as it is; ``--n`` replaces
    N.
    """
    found: dict[str, RunConfig] = {}
    for variant in chosen(options):
        for schedule in schedules(variant, options):
            cell = variant.cell(options.preset, schedule)
            found.setdefault(cell.config_hash(), cell)
    return list(found.values())


def chosen(options: Options) -> list[Variant]:
    """Return the variants that a command line asks for."""
    if options.algorithms is None:
        every = options.preset.verdicts
        return [one for one in VARIANTS if every or one.name in FEW]
    known = [one for one in VARIANTS if one.algorithm in options.algorithms]
    new = set(options.algorithms) - {one.algorithm for one in known}
    return [
        *known,
        *(Variant(name=name, algorithm=name) for name in options.algorithms if name in new),
    ]


def schedules(variant: Variant, options: Options) -> list[Schedule]:
    """Return the schedules of a variant that a preset's number of updates allows."""
    preset = options.preset
    updates = preset.run_config(variant.algorithm, reuse(1)).updates
    usual = [n for n in N_VALUES if n in preset.n_values]
    n_values = options.n_values or (*usual, *variant.further_n)
    lags = variant.lags or [n // 2 for n in n_values if n > 1]
    possible = [reuse(n) for n in n_values if updates % n == 0]
    possible += [lag(steps) for steps in lags if steps < updates]
    return [one for one in possible if variant.takes(one)]


def series(run: RunConfig, preset: Preset) -> tuple[str, ...]:
    """Return the names of the variants that a run is of."""
    name = run.algorithm.name
    of = [one for one in VARIANTS if one.algorithm == name and one.takes(run.schedule)]
    found = [one.name for one in of if one.cell(preset, run.schedule) == run.with_seed(0)]
    return tuple(found) or (name,)


def ranked(record: Record) -> Record:
    """Return the runs at one step per batch and two completions per prompt, on stale data."""
    final = staleness.stale(record.final)
    return replace(record, final=final[final["algorithm"].isin(RANKED)])


def draw(record: Record) -> Figure:
    """Draw a panel per family, and the ranking."""
    return drawn.families(record, FAMILIES, ranked(record))


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return the gain that each series keeps at each age, by outcome."""
    del options
    return staleness.kept_by(record, COLUMNS)


REPRODUCTION = Reproduction(
    name="fig_modern_losses",
    caption=__doc__,
    grid=grid,
    series=series,
    draw=draw,
    tabulate=tabulate,
    ranked=ranked,
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
