"""The flags that every script takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from bench import algorithms as registry
from bench import paths
from bench.command import Parser
from bench.config import LrSchedule, RunConfig
from bench.engines import ENGINES
from bench.errors import UserError
from bench.experiments import arms
from bench.experiments.flags import add_flags, check_workers, directory, names
from bench.experiments.preset import Preset
from bench.experiments.presets import preset
from bench.records import wandb_log
from bench.staleness import ON_POLICY, lag, reuse


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line. None: not given."""

    preset: Preset
    seeds: tuple[int, ...] | None = None
    algorithms: tuple[str, ...] | None = None
    n_values: tuple[int, ...] | None = None
    workers: int | None = None
    fresh: bool = False
    replot: bool = False
    beside: Path | None = None  # a results directory whose runs are drawn too
    out: Path | None = None
    hub_dir: Path | None = None
    ray: str | None = None
    wandb: wandb_log.Mode | None = None

    @property
    def results_dir(self) -> Path:
        """Where the user's own runs are."""
        return self.out or paths.results_dir(self.preset.name)

    @property
    def record_dir(self) -> Path:
        """Where the recorded runs are."""
        return paths.record_dir(self.preset.name)


MAX_VALUES = 10_000  # of --seeds and of --n
MAX_SEED = 2**63 - 1
MAX_N = 2**31

Grid = Callable[[Options], list[RunConfig]]  # one configuration per cell, with seed 0


def mini_batches(
    *algorithms: str, most: int | None = None, lr_schedules: Sequence[LrSchedule | None] = (None,)
) -> Grid:
    """Return the grid algorithms x N x learning-rate schedules, under the paper's ``reuse(N)``.

    The flags ``--algorithms`` and ``--n`` replace the algorithms and the preset's N. At N = 1 the
    learning-rate schedules are the same by definition, so there is one cell, the preset's.

    Args:
        algorithms: unless the user names others.
        most: the largest number of algorithms; the first ones are taken.
        lr_schedules: None for the preset's own.
    """

    def cells(options: Options) -> list[RunConfig]:
        found = {}
        for name in (options.algorithms or algorithms)[:most]:
            for n in options.n_values or options.preset.n_values:
                for lr_schedule in lr_schedules:
                    config = options.preset.run_config(name, reuse(n))
                    if lr_schedule is not None and n > 1:
                        config = replace(config, lr_schedule=lr_schedule)
                    found[config.config_hash()] = config
        return list(found.values())

    return cells


def timed_arms(*algorithms: str, largest: bool = False) -> Grid:
    """Return the grid algorithms x model sizes x arms of ``bench.experiments.arms``.

    The flag ``--algorithms`` replaces the algorithms.

    Args:
        algorithms: unless the user names others.
        largest: the largest size alone, the last of the preset's.
    """

    def cells(options: Options) -> list[RunConfig]:
        preset = options.preset
        return [
            arms.arm(preset.run_config(name, ON_POLICY, model=model), arm)
            for name in (options.algorithms or algorithms)
            for model in preset.models[-1 if largest else 0 :]
            for arm in arms.ARMS
        ]

    return cells


def one_step_stale(preset: Preset, algorithm: str, model: str, **params: object) -> RunConfig:
    """Return an asynchronous run, one step off-policy, as the preset has it.

    Args:
        preset: of the figure.
        algorithm: its name.
        model: the policy's size.
        params: of the algorithm, in place of the preset's.

    Raises:
        UserError: the algorithm has no such parameter, or a value is out of range.
    """
    config = preset.run_config(algorithm, lag(1), model=model, lr_schedule="per_update")
    changed = registry.build(algorithm, {**config.algorithm.identity(), **params})
    return replace(config, algorithm=changed)


def parse(description: str, arguments: Sequence[str] | None) -> Options:
    """Read the command line.

    Raises:
        UserError: a flag or a value is not allowed.
    """
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add_flags(parser, "--preset", "--task")
    add("--seeds", type=_seeds, help="how many (3), or which (0,1,4)")
    add("--algorithms", type=names, help="these instead of the figure's own: ppo,rloo")
    add("--n", type=_counts, help="these mini-batches per generation round: 1,4,16")
    add("--engine", choices=tuple(ENGINES), default="hf", help="what generates (default: hf)")
    add_flags(parser, "--workers")
    add(
        "--ray",
        metavar="ADDRESS",
        help="do the runs on the Ray cluster at HOST:PORT; auto: on the one found, else on a new "
        "one of this machine with --workers CPUs",
    )
    add("--fresh", action="store_true", help="train SFT and reward models anew, repeat all runs")
    add("--replot", action="store_true", help="run nothing, draw what is there (else the record)")
    add(
        "--with",
        dest="beside",
        type=directory,
        metavar="DIR",
        help="draw the runs of this results directory beside the others",
    )
    add_flags(parser, "--out", "--hub-dir")
    add(
        "--wandb",
        choices=get_args(wandb_log.Mode),
        help="also send each run to Weights & Biases as it goes, and the figure",
    )
    given = parser.parse_args(arguments)
    check_workers(given.workers)
    if given.fresh and given.replot:
        raise UserError("--fresh repeats all runs and --replot runs nothing: give one of them")
    scale = preset(given.preset, given.out, given.task)
    return Options(
        preset=replace(scale, engine=given.engine),
        seeds=given.seeds,
        algorithms=given.algorithms,
        n_values=given.n,
        workers=given.workers,
        fresh=given.fresh,
        replot=given.replot,
        beside=given.beside,
        out=given.out,
        hub_dir=given.hub_dir,
        ray=given.ray,
        wandb=given.wandb,
    )


def _counts(text: str) -> tuple[int, ...]:
    return _integers(text, least=1, most=MAX_N)


def _seeds(text: str) -> tuple[int, ...]:
    if "," in text:
        return _integers(text, least=0, most=MAX_SEED)
    return tuple(range(_integers(text, least=1, most=MAX_VALUES)[0]))


def _integers(text: str, *, least: int, most: int) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > MAX_VALUES:
        raise argparse.ArgumentTypeError(f"{len(parts)} values: at most {MAX_VALUES} are allowed")
    if not parts or any(not part.isdecimal() or not least <= _value(part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"{_short(text)}: allowed are whole numbers from {least}, with commas between them"
        )
    if any(_value(part) > most for part in parts):
        raise argparse.ArgumentTypeError(f"{_short(text)}: at most {most} is allowed")
    return tuple(dict.fromkeys(map(_value, parts)))


def _value(digits: str) -> int:
    """Return a number of decimal digits; one of more than 20 is only known to be large."""
    return int(digits) if len(digits) <= 20 else 10**20


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")
