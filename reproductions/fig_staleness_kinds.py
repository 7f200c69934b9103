"""Beyond the paper: does it matter how data became stale, and what is done with what is too old?

RLOO and Online DPO on data of about the same mean age, by kind: N = 2 S mini-batches of one round
(``reuse(N)``), always S updates old (``lag(S)``), and up to S old as it comes (``bounded(S)``, an
engine that runs freely beside the learner: its ages are this machine's). Where engines generate
without a break, a long completion is the oldest. Three rules keep all within S: a prompt with an
older completion is dropped before advantages; older completions are withheld from the loss, but
stay in the baseline; generation is paced, one update fresher. For these a completion counts as one
update older for each three quarters of the token limit that it took (``tokens_per_update``): a
model. Who is selected is real, the further age is not.

Left: the share of the gain on fresh data, in mean win rate over training, that is kept. Middle and
right: length and proxy reward of the final policy's completions, which show who was selected.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from bench.config import RunConfig
from bench.experiments.preset import Preset
from bench.staleness import bounded, lag, reuse
from plots.analysis import staleness
from plots.analysis.frames import Record
from plots.analysis.registry import COLUMNS
from plots.drawing import staleness as drawn
from reproductions.options import Options
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce

N_VALUES = (4, 16, 64)
KINDS = ("reuse", "lag", "bounded", "dropped", "withheld", "paced")


def of_kind(preset: Preset, name: str, steps: int) -> Iterator[tuple[str, RunConfig]]:
    """Yield the run of each kind at S ``steps``."""
    plain = preset.run_config(name, lag(steps), lr_schedule="per_update")
    aged = replace(
        plain,
        max_age_updates=steps,
        tokens_per_update=max(1, 3 * plain.max_completion_tokens // 4),
    )
    if plain.updates % (2 * steps) == 0:
        yield "reuse", replace(plain, schedule=reuse(2 * steps))
    yield "lag", plain
    if preset.verdicts:  # else it is enough to see that the code runs
        yield "bounded", replace(plain, schedule=bounded(steps))
    yield "dropped", replace(aged, late="drop")
    yield "withheld", aged
    yield "paced", replace(plain, schedule=lag(steps - 1))


def grid(options: Options) -> list[RunConfig]:
    """Return losses x kinds x ages, and each loss on fresh data.

    ``--n`` replaces N, of which only multiples of 4 count: S is even then, and what is paced odd.
    """
    preset, cells = options.preset, []
    usual = [n for n in N_VALUES if n in preset.n_values]
    for name in options.algorithms or ("rloo", "online_dpo")[: 2 if preset.verdicts else 1]:
        fresh = preset.run_config(name, reuse(1), lr_schedule="per_update")
        cells.append(fresh)
        for n in options.n_values or usual:
            if n % 4 == 0 and fresh.updates % n == 0:
                cells += [run for _, run in of_kind(preset, name, n // 2)]
    return list({run.config_hash(): run for run in cells}.values())


def series(run: RunConfig, preset: Preset) -> tuple[str, ...]:
    """Return the loss with the kinds that a run is of; on fresh data it is of all."""
    name = run.algorithm.name
    if run.schedule == reuse(1):
        return tuple(f"{name} ({kind})" for kind in KINDS)
    n = run.schedule.n
    steps = n // 2 if run.schedule.kind == "reuse" else n + n % 2
    kinds = [kind for kind, other in of_kind(preset, name, steps) if other == run.with_seed(0)]
    return tuple(f"{name} ({kind})" for kind in kinds)


def ranked(record: Record) -> Record:
    """Return the runs on stale data, cells by S instead of by schedule."""
    final = staleness.stale(record.final)
    paced = final["algorithm"].str.endswith("(paced)")
    steps = (final["n"] // 2).where(final["schedule_kind"] == "reuse", final["n"] + paced)
    return replace(record, final=final.assign(n=steps, schedule_kind="stale"))


def draw(record: Record) -> Figure:
    """Draw a row per loss."""
    return drawn.kinds(record, KINDS)


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return the gain that is kept, by loss, kind and age, and by outcome."""
    del options
    return staleness.kept_by(record, COLUMNS)


REPRODUCTION = Reproduction(
    name="fig_staleness_kinds",
    caption=__doc__,
    grid=grid,
    series=series,
    draw=draw,
    tabulate=tabulate,
    ranked=ranked,
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
