"""Predict what asynchrony gains on this machine, before anything is run for long.

A few updates are timed, engine and learner apart and beside each other; a simulation of the suite's
own schedules does the rest. Or the times are given by flag, or estimated for devices that are not
here, and nothing is timed. The figure of it:
`python reproductions/plan.py`, with the same flags.

Examples:
    python -m bench.plan
    python -m bench.plan --preset tiny --models 0.1m,0.4m --schedules "on_policy,lag(1),bounded(2)"
    python -m bench.plan --generate-s 40 --train-s 30 --publish-s 2 --updates 256
    python -m bench.plan --preset paper --models 410m,1b,2.8b --devices 4x80
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
from rich.console import Console

from bench import hub, paths
from bench.command import Parser, run_command
from bench.config import RunConfig
from bench.errors import UserError
from bench.experiments import arms
from bench.experiments.flags import add_flags
from bench.experiments.presets import preset
from bench.experiments.progress import duration, say
from bench.experiments.starting_models import check
from bench.experiments.tables import print_frame
from bench.planning.estimate import Machine, estimate
from bench.planning.fit import (
    executions,
    known_bytes,
    memory_table,
    require_fits,
    shapes,
    too_large,
)
from bench.planning.predict import SCHEDULES, Measured, Prediction, predict, recommend, table
from bench.planning.simulation import Slowdown, Work
from bench.processes.devices import Gpus, inventory
from bench.staleness import ON_POLICY, Schedule

GIVEN = ("generate_s", "train_s", "load_s", "publish_s", "whole_s")


@dataclass(frozen=True)
class Plan:
    """What was measured of one model, and what it means for a run."""

    config: RunConfig
    measured: Measured
    predictions: tuple[Prediction, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row per schedule and split of devices: see ``bench.planning.predict.table``."""
        return table(self.predictions)

    @property
    def chosen(self) -> int:
        """The position of the recommended row."""
        return self.predictions.index(recommend(self.predictions))

    @property
    def advice(self) -> str:
        """The recommended schedule in a sentence."""
        one, updates = self.predictions[self.chosen], self.config.updates
        line = one.timeline
        split = one.devices == "split"
        return (
            f"{one.model}: take {one.schedule}, "
            f"{'devices of their own' if split else 'all devices for each phase'}: "
            f"{line.update_s:.3g} s per update, {updates} updates in "
            f"{duration(updates * line.update_s)}, staleness {line.staleness_mean:.2f} (mean) "
            f"{max(line.staleness)} (maximum) optimiser steps"
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: a setting is not possible.
    """
    parser = Parser(
        prog="python -m bench.plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser, "--preset", "--task", "--out", "--hub-dir")
    add = parser.add_argument
    add("--models", help="sizes of the preset, commas between (default: its first)")
    add("--algorithm", default="online_dpo", help="the loss (default: online_dpo)")
    add("--engine", help="what generates (default: the preset's)")
    add("--schedules", help=f"commas between (default: {','.join(map(str, SCHEDULES))})")
    add("--updates", type=int, help="of a run (default: the preset's)")
    add("--measured-updates", type=int, default=16, help="timed in each arm (default: 16)")
    add("--generate-s", type=float, help="seconds per batch; with --train-s nothing is timed")
    add("--train-s", type=float, help="seconds per batch, to score and to learn")
    add("--load-s", type=float, help="seconds until an engine has new weights (default: 0)")
    add("--publish-s", type=float, help="seconds to hand weights over (default: 0)")
    add("--whole-s", type=float, help="seconds per update with all devices for each phase")
    add("--engine-slowdown", type=float, help="of generation beside training (default: 1)")
    add("--learner-slowdown", type=float, help="of training beside generation (default: 1)")
    add("--devices", help="estimate for so many of so many GB each, such as 4x80")
    add("--tflops", type=float, default=300.0, help="sustained, of such a device (default: 300)")
    add("--gb-per-s", type=float, default=2000.0, help="of its memory (default: 2000)")
    return parser.parse_args(arguments)


def plans(given: argparse.Namespace, console: Console) -> list[Plan]:
    """Measure, or take the numbers given, and predict: one plan per model.

    Raises:
        UserError: a setting is not possible, or a model does not fit into memory.
    """
    schedules = _schedules(given.schedules) if given.schedules else SCHEDULES
    if given.hub_dir is not None:
        hub.use_hub_dir(given.hub_dir)
    configs = _configs(given)
    by_flags = any(getattr(given, name) is not None for name in GIVEN)
    if (machine := machine_of(given)) is not None:
        if by_flags:
            raise UserError("--devices: times are estimated, or given by flag, not both")
        measured = [_by_estimate(config, machine) for config in configs]
    elif by_flags:
        if len(configs) > 1:
            raise UserError("--models: times given by flag are those of one model")
        measured = [_by_flags(configs[0].stage.model, given)]
    else:
        measured = _by_clock(configs, given, console)
    found = []
    for config, one in zip(configs, measured, strict=True):
        predictions = tuple(predict(one, config.updates, schedules))
        if not predictions:
            raise UserError(f"--schedules {given.schedules}: none is possible with these times")
        found.append(Plan(config, one, predictions))
    return found


def _schedules(text: str) -> tuple[Schedule, ...]:
    try:
        return tuple(map(Schedule.parse, text.split(",")))
    except ValueError as error:
        raise UserError(f"--schedules: {error}") from None


def _configs(given: argparse.Namespace) -> list[RunConfig]:
    scale = preset(given.preset, given.out, given.task)
    models = given.models.split(",") if given.models else scale.models[:1]
    configs = [scale.run_config(given.algorithm, ON_POLICY, model=model) for model in models]
    chosen = {"engine": given.engine, "updates": given.updates}
    overrides = {name: value for name, value in chosen.items() if value is not None}
    return [replace(config, **overrides) for config in configs]


def _by_flags(model: str, given: argparse.Namespace) -> Measured:
    split: tuple[Work, ...] = ()
    whole: tuple[Work, ...] = ()
    if (given.generate_s is None) != (given.train_s is None):
        raise UserError("--generate-s, --train-s: give both, or none to measure them")
    if given.generate_s is not None:
        one = Work(
            generate_s=given.generate_s,
            train_s=given.train_s,
            load_s=given.load_s or 0.0,
            publish_s=given.publish_s or 0.0,
        )
        split = (one,)
    if given.whole_s is not None:
        whole = (Work(generate_s=0.0, train_s=given.whole_s),)
    slowdown = Slowdown(given.engine_slowdown or 1.0, given.learner_slowdown or 1.0)
    return Measured(model=model, split=split, whole=whole, slowdown=slowdown)


def machine_of(given: argparse.Namespace) -> Machine | None:
    """Return the devices asked for by flag; None: this machine's."""
    if given.devices is None:
        return None
    return Machine.parse(given.devices, given.tflops, given.gb_per_s)


def _by_estimate(config: RunConfig, machine: Machine) -> Measured:
    known = shapes(config)
    if known is None:
        raise UserError(f"--devices: the shape of model {config.stage.model} is not known")
    return estimate(machine, config, *known, config.stage.task.longest_prompt_tokens())


def _by_clock(
    configs: Sequence[RunConfig], given: argparse.Namespace, console: Console
) -> list[Measured]:
    from bench.planning.measure import measure  # imports torch

    for config in configs:
        for how in executions(config).values():
            require_fits(config, how)
    check(configs, workers=None)
    if (warning := arms.load_warning()) is not None:
        say(console, f"Warning: {warning}")
    results_dir = given.out or paths.results_dir(given.preset)
    caches = [where / paths.CHECKPOINTS for where in (results_dir, paths.record_dir(given.preset))]
    return [
        measure(config, caches, given.measured_updates, partial(say, console)) for config in configs
    ]


def _there(machine: Machine | None) -> tuple[Gpus, Mapping[str, int]]:
    """Return the GPUs and the memory of devices by name, of a machine or, without one, of this."""
    if machine is not None:
        return machine.names, machine.memory
    return (gpus := inventory()), known_bytes(gpus)


def show(found: Sequence[Plan], console: Console, machine: Machine | None = None) -> None:
    """Print what was measured or estimated and predicted, and what is recommended."""
    shares = ["engine_busy", "learner_busy"]
    for plan in found:
        frame = plan.table
        frame["staleness"] = [
            f"{mean:.2f}, at most {most}"
            for mean, most in zip(frame["staleness_mean"], frame["staleness_max"], strict=True)
        ]
        speed_ups = ["speed_up_split", "speed_up_whole", "ideal"]
        frame[[*speed_ups, *shares]] = frame[[*speed_ups, *shares]].round(2)
        columns = ["devices", "schedule", "update_s", *speed_ups, *shares, "staleness"]
        print_frame(console, frame[columns], f"{plan.measured.model}: predicted")
        slower = plan.measured.slowdown
        if plan.measured.split and machine is None:
            say(
                console,
                f"Beside each other generation takes {slower.engine:.2f} times as long, training "
                f"{slower.learner:.2f} times.",
            )
        say(console, f"{plan.advice}.")
    gpus, there = _there(machine)
    memory = memory_table([plan.config for plan in found], gpus, there)
    if len(memory):
        print_frame(console, memory, "memory, without libraries and evaluation")
    if machine is not None:
        for plan in found:
            for devices, how in executions(plan.config).items():
                lacks = too_large(plan.config, how, gpus, there)
                say(
                    console,
                    f"{devices}: {lacks}."
                    if lacks
                    else f"{devices}: {plan.config.stage.model} fits.",
                )
        say(
            console,
            f"The learner has {machine.ranks} of {machine.devices} devices, each with all it must "
            f"hold. Estimated, not measured: {machine.flops / 1e12:g} TFLOP/s sustained and "
            f"{machine.bandwidth / 1e9:g} GB/s from memory (--tflops, --gb-per-s); "
            "without evaluation.",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""

    def command() -> None:
        console = Console()
        given = parse(arguments)
        show(plans(given, console), console, machine_of(given))

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
