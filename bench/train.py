"""Train one policy and record it: the front door for an experiment of your own.

A preset gives every setting a value; what you name replaces it. The run is written where the
figures find it: draw it beside the recorded ones with
`python reproductions/fig_offpolicy_robustness.py --replot --with results/<preset>`.

Examples:
    python -m bench.train --algorithm grpo --schedule "reuse(16)"
    python -m bench.train --algorithm ppo --algorithm.kl-coef 0.02 --learning-rate 1e-4 --seed 3
    python -m bench.train --schedule "bounded(2)" --execution.source overlapped
    python -m bench.train --task tldr_tiny --task.verbs 12 --stages.comparisons 2000
    torchrun --standalone --nproc-per-node 2 -m bench.train --microbatch-rows 32
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from tyro.conf import arg

from bench import hub, paths
from bench.algorithms import ALGORITHMS
from bench.command import Parser, run_command
from bench.config import Execution, RunConfig
from bench.experiments.cells import train_cell
from bench.experiments.flags import FLAGS, refuse_records
from bench.experiments.presets import ORDER, preset
from bench.experiments.progress import duration, say
from bench.experiments.starting_models import check, starting_models
from bench.experiments.sweep import locked, sweep
from bench.planning.fit import require_fits
from bench.processes.thread import ThreadWorker
from bench.records import store, wandb_log
from bench.stage_config import StageConfig, StageParams
from bench.staleness import ALLOWED, ON_POLICY, Schedule
from bench.tasks import TASKS
from bench.tasks.base import TaskConfig

if TYPE_CHECKING:
    from bench.learning.parallel import Ranks

CHOICES = ("--preset", "--task", "--out", "--hub-dir")  # read first: they decide the defaults


@dataclass(frozen=True, kw_only=True)
class _Stage(StageConfig):
    """What the policy starts from."""

    task: Annotated[TaskConfig, arg(name="task", prefix_name=False)]
    model: Annotated[str, tyro.conf.Suppress]
    reward_model: Annotated[str | None, tyro.conf.Suppress]
    params: Annotated[
        StageParams | None, arg(name="stages", prefix_name=False), tyro.conf.AvoidSubcommands
    ] = None
    reward_params: Annotated[
        StageParams | None, arg(name="reward_stages", prefix_name=False), tyro.conf.AvoidSubcommands
    ] = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What the command line says."""

    preset: str  # the scale, and all defaults below
    algorithm_name: Annotated[str, arg(name="algorithm")]  # the loss
    task: str | None  # in place of the preset's own
    model: str  # a size that the preset has
    reward_model: str | None  # likewise; None: the policy's size
    out: Path | None  # results directory; None: results/<preset>
    hub_dir: Path | None  # read <owner>/<name> from here, download nothing
    wandb: wandb_log.Mode | None = None  # also send the run to Weights & Biases as it goes
    run: Annotated[RunConfig, arg(name="")]
    execution: Execution = field(default_factory=Execution)


def parse(arguments: Sequence[str] | None = None) -> Experiment:
    """Read the command line.

    Raises:
        UserError: a setting is not possible.
        SystemExit: help was asked for, or a flag is unknown or malformed.
    """
    first = Parser(add_help=False, allow_abbrev=False)
    for flag in CHOICES:
        first.add_argument(flag, **FLAGS[flag])
    first.add_argument("--algorithm", default="online_dpo")
    first.add_argument("--model")
    first.add_argument("--reward-model")
    chosen, _ = first.parse_known_args(arguments)
    scale = preset(chosen.preset, chosen.out, chosen.task)
    config = scale.run_config(
        chosen.algorithm, ON_POLICY, model=chosen.model, reward_model=chosen.reward_model
    )
    stage = _Stage(**vars(config.stage))
    default = Experiment(
        preset=chosen.preset,
        algorithm_name=chosen.algorithm,
        task=chosen.task,
        model=stage.model,
        reward_model=stage.reward_model,
        out=chosen.out,
        hub_dir=chosen.hub_dir,
        run=replace(config, stage=stage),
        execution=Execution(learner_threads=1),
    )
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_schedule_rule)
    found = tyro.cli(
        Experiment,
        default=default,
        args=arguments,
        prog="python -m bench.train",
        description=_help(),
        registry=registry,
    )
    plain = {one.name: getattr(found.run.stage, one.name) for one in fields(StageConfig)}
    return replace(found, run=replace(found.run, stage=StageConfig(**plain)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""

    def command() -> None:
        given = parse(arguments)
        refuse_records(given.out or paths.results_dir(given.preset))
        if given.hub_dir is not None:
            hub.use_hub_dir(given.hub_dir)
        from bench.learning.parallel import joined, processes  # imports torch

        if processes() == 1:
            _train(given)
            return
        from bench.assembly import on_rank
        from bench.loop import serve

        execution = on_rank(given.execution)
        with hub.quiet(), joined(execution.timeout_s, str(execution.device)) as ranks:
            if ranks.rank == 0:
                _train(replace(given, execution=execution), ranks)
                ranks.tell(None)
            else:
                # It holds nothing that an end at once would lose, and may wait in a library.
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                serve(ranks, execution)

    return run_command(command)


def _train(given: Experiment, ranks: Ranks | None = None) -> None:
    """Do the run, unless it is there already, and say what was found.

    Args:
        given: what the command line says.
        ranks: those of the learner, of which this is rank 0; None: there are no others.
    """
    results_dir = given.out or paths.results_dir(given.preset)
    require_fits(given.run, given.execution)
    if given.wandb is not None:
        wandb_log.require(given.wandb)
    console = Console()
    with locked(results_dir):
        check([given.run], workers=1)
        models = starting_models(
            [given.run],
            results_dir=results_dir,
            record_dir=paths.record_dir(given.preset),
            workers=1,
            console=console,
        )
        do = partial(sweep, [given.run], models, results_dir=results_dir, preset=given.preset)
        if ranks is not None:  # a process of its own would be no rank
            execute = partial(
                train_cell,
                checkpoint_dir=results_dir / paths.UNFINISHED,
                ranks=ranks,
                wandb=given.wandb,
            )
            do = partial(do, execute=execute, launch=ThreadWorker)
        (run_id,) = do(workers=1, console=console, execution=given.execution, wandb=given.wandb)
    say(console, summary(results_dir, run_id))


def summary(results_dir: Path, run_id: str) -> str:
    """Return the results in one line, and where the tables are.

    Staleness is in optimiser steps: mean and maximum over the run's batches.
    """
    run, *_ = store.read(results_dir, "runs", [run_id]).to_dict("records")
    last = store.read(results_dir, "evals", [run_id]).iloc[-1]
    staleness = store.read(results_dir, "steps", [run_id])["staleness"]
    diverged = (
        f"diverged at update {run['diverged_at']:.0f}; " if run["status"] != "completed" else ""
    )
    own = run_id in store.separate(results_dir)
    return (
        f"{run['algorithm']} {run['schedule']} seed {run['seed']}: {diverged}"
        f"win rate {last['win_rate']:.4f}, KL {last['kl_nats']:.2f} nats, "
        f"{duration(run['wall_s'])} of training, "
        f"staleness {staleness.mean():.2f} (mean) {staleness.max()} (maximum) optimiser steps; "
        f"in {results_dir}/{f'*/{run_id}' if own else '*'}.parquet"
    )


def _help() -> str:
    choices = {
        "--preset": ", ".join(ORDER),
        "--algorithm": ", ".join(ALGORITHMS),
        "--task": ", ".join(TASKS),
        "--schedule": ALLOWED.removeprefix("allowed are "),
    }
    lines = [f"{flag}: {values}" for flag, values in choices.items()]
    return f"{__doc__}\n" + "\n\n".join(lines)


def _schedule_rule(info: Any) -> tyro.constructors.PrimitiveConstructorSpec[Schedule] | None:
    """Tell tyro how to read a schedule such as ``reuse(16)``."""
    if info.type is not Schedule:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="SCHEDULE",
        instance_from_str=lambda words: Schedule.parse(words[0]),
        is_instance=lambda value: isinstance(value, Schedule),
        str_from_instance=lambda schedule: [str(schedule)],
    )


if __name__ == "__main__":
    sys.exit(main())
