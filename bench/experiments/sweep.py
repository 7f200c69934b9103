"""A sweep: which runs are missing, run side by side, resumable after any interruption.

Every run is written the moment it ends, so that a sweep killed at any point continues with what is
missing and ends with the same tables. Imports no torch; the workers do.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.config import Execution, RunConfig, StageConfig
from bench.errors import RunsFailedError, UserError
from bench.experiments import arms
from bench.experiments.progress import Display, Tally, say
from bench.paths import LOGS, UNFINISHED
from bench.processes.pool import Event, Execute, Job, OnProgress, run_jobs
from bench.records import provenance, store

if TYPE_CHECKING:
    from bench.types import StageModels


@dataclass(frozen=True)
class Cell:
    """The payload of a run's job."""

    config: RunConfig
    models: StageModels
    execution: Execution | None = None  # None: as ``arms.execution`` says


def sweep(
    configs: Sequence[RunConfig],
    models: Mapping[str, StageModels],
    *,
    results_dir: Path,
    preset: str,
    workers: int,
    console: Console,
    execute: Execute | None = None,
    gpus_per_task: float | None = None,
    execution: Execution | None = None,
) -> list[str]:
    """Do all runs that ``results_dir`` does not hold yet; return the ids of all of them.

    Timed runs come last, one at a time.

    Args:
        configs: runs in order of execution; results do not depend on the order.
        models: what each run starts from, by ``StageConfig.hash``.
        results_dir: results directory; finished runs in it are kept.
        preset: stored with each run.
        workers: processes at a time.
        console: where progress is shown.
        execute: what a worker does with a ``Cell`` job; trains and stores unless given.
        gpus_per_task: do the runs, but for timed ones, on the Ray cluster to which this process is
            connected, with a CPU and this many GPUs for each; None: in processes of this machine.
        execution: how each run is carried out; None: as ``arms.execution`` says.

    Raises:
        UserError: something asked for is not possible; finished runs are kept.
        RunsFailedError: runs failed; the others were finished.
    """
    cells = {}
    for config in configs:
        start = models[config.stage.hash()]
        cells[config.run_id(start.digest)] = Cell(config, start, execution)
    missing, warnings = store.incomplete(results_dir, cells)
    for warning in warnings:
        say(console, f"warning: {warning}")
    jobs = [_job(run_id, cells[run_id]) for run_id in missing]
    done = len(cells) - len(jobs)
    if done:
        say(console, f"{done} of {len(cells)} cells are already done")
    if execute is None:
        origin = provenance.code_and_host()
        execute = partial(_train_and_store, results_dir, preset=preset, origin=origin)
    timed = [job for job in jobs if arms.timed_arm(job.payload.config) is not None]
    untimed = [job for job in jobs if arms.timed_arm(job.payload.config) is None]
    if gpus_per_task is None:
        run_all(untimed, execute, results_dir, workers, console, unit="cells", already_done=done)
    else:
        # Here, since Ray is an extra.
        from bench.processes.on_ray import connection, pool

        run_all(
            untimed,
            partial(_train_and_store, preset=preset, origin=None),
            results_dir,
            connection.slots(cpus=1, gpus=gpus_per_task),
            console,
            unit="cells",
            already_done=done,
            run=partial(pool.run_jobs, results_dir=results_dir, gpus=gpus_per_task),
        )
    if timed:
        if (busy := arms.load_warning()) is not None:
            say(console, f"warning: {busy}")
        done += len(untimed)
        run_all(timed, execute, results_dir, 1, console, unit="timed cells", already_done=done)
    return list(cells)


def run_all(
    jobs: Sequence[Job],
    execute: Callable[..., None],
    results_dir: Path,
    workers: int,
    console: Console,
    *,
    unit: str,
    already_done: int = 0,
    run: Callable[..., Generator[Event, None, None]] | None = None,
) -> None:
    """Run jobs with a display, by ``run`` or else in ``workers`` processes of this machine.

    Raises:
        UserError: a job was refused; the others are stopped.
        RunsFailedError: jobs failed; the others were finished.
    """
    if not jobs:
        return
    failures: list[Event] = []
    tally = Tally(jobs, workers, already_done=already_done)
    run = run or partial(run_jobs, workers=workers)
    events = run(jobs, execute, log_dir=results_dir / LOGS)
    with closing(events), Display(tally, console, unit) as display:
        for event in events:
            display.add(event)
            if event.kind == "refused":
                raise UserError(event.error)
            if event.kind == "failed":
                failures.append(event)
    if failures:
        first = failures[0]
        raise RunsFailedError(
            f"{len(failures)} of {len(jobs)} {unit} failed, the others are done; first: "
            f"{jobs[first.index].label}: {first.error}"
        )


@contextmanager
def locked(results_dir: Path) -> Iterator[None]:
    """Hold a results directory for one sweep; the lock goes with the process.

    Raises:
        UserError: another process holds it, or it is not writable.
    """
    store.check_writable(results_dir)
    with (results_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another sweep is running in {results_dir}; wait for it or choose another --out"
            ) from None
        yield


def build_stages(
    stages: Mapping[str, StageConfig], cache_dir: Path, *, workers: int, console: Console
) -> None:
    """Train SFT and reward models, each size in its own worker, into ``cache_dir``.

    Raises:
        UserError: a stage cannot be built as configured.
        RunsFailedError: a stage failed.
    """
    jobs = [
        Job(f"SFT and reward model, {stage.model}", f"stage-{name}", "stage", 1, stage)
        for name, stage in stages.items()
    ]
    run_all(
        jobs, partial(_build_stage, cache_dir), cache_dir.parent, workers, console, unit="stages"
    )


def _job(run_id: str, cell: Cell) -> Job:
    config, timed = cell.config, arms.timed_arm(cell.config)
    per_round = "per_round " if config.lr_schedule == "per_round" else ""
    return Job(
        label=f"{config.stage.model} {config.algorithm.name} {config.schedule} {per_round}"
        f"{timed + ' ' if timed else ''}seed {config.seed}",
        log_name=run_id,
        group=f"{config.algorithm.name} {config.stage.model}",
        updates=config.updates,
        payload=cell,
    )


def _train_and_store(
    results_dir: Path,
    job: Job,
    on_progress: OnProgress,
    *,
    preset: str,
    origin: Mapping[str, Any] | None,
) -> None:
    """Do a run; ``origin`` is where, None: here, whatever the machine."""
    import torch

    from bench.loop import train

    torch.set_num_threads(1)
    cell: Cell = job.payload
    execution = cell.execution or arms.execution(cell.config)
    if arms.timed_arm(cell.config) is None and execution.checkpoint_dir is None:
        # a timed run is one piece
        execution = replace(execution, checkpoint_dir=results_dir / UNFINISHED)
    started = provenance.now_utc()
    result = train(
        cell.config, cell.models, lambda at: on_progress(at.step, at.win_rate), execution
    )
    store.write_run(
        results_dir,
        cell.config,
        result,
        preset=preset,
        weights_digest=cell.models.digest,
        timed=arms.timed_arm(cell.config),
        source=execution.source,
        provenance={
            **(origin or provenance.code_and_host()),
            "started_utc": started,
            "threads": execution.learner_threads or torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        },
    )


def _build_stage(cache_dir: Path, job: Job, on_progress: OnProgress) -> None:  # noqa: ARG001
    import torch

    from bench.stages import resolve

    torch.set_num_threads(1)
    resolve(job.payload, cache_dir=cache_dir)
