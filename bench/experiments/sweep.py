"""Sweeps: finds the runs that are missing and does them in parallel. Can be interrupted.

Workers train, this process writes: each run's tables when it ends, so that a sweep killed at any
point continues with what is missing and ends with the same tables. Many runs are put together in
one file per table. Imports no torch.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.config import Execution, RunConfig
from bench.errors import RunsFailedError, UserError
from bench.experiments import arms
from bench.experiments.cells import Cell, Trained, job_of, shares, train_cell, write
from bench.experiments.progress import Display, say
from bench.experiments.space import require_space
from bench.paths import LOGS, UNFINISHED
from bench.processes.devices import Gpus, deal, inventory
from bench.processes.pool import Event, Execute, Job, Launch, OnProgress, launch_locally, run_jobs
from bench.records import provenance, store, wandb_log
from bench.records.compact import compact, incomplete
from bench.records.marker import mark, mark_made_by
from bench.stage_config import RewardConfig, SftConfig

if TYPE_CHECKING:
    from bench.types import StageModels


# Of an SFT or a reward model, which reports nothing before its end: days for the largest models.
STAGE_TIMEOUT_S = 14 * 24 * 3600.0
MOST_LOGS = 50
LOG_BYTES = 4_000_000  # of each


def sweep(
    configs: Sequence[RunConfig],
    models: Mapping[str, StageModels],
    *,
    results_dir: Path,
    preset: str,
    workers: int | None,
    console: Console,
    execute: Execute | None = None,
    gpus_per_task: float | None = None,
    execution: Execution | None = None,
    launch: Launch = launch_locally,
    wandb: wandb_log.Mode | None = None,
) -> list[str]:
    """Do all runs that ``results_dir`` does not hold yet; return the ids of all of them.

    Timed runs come last, one at a time.

    Args:
        configs: runs in order of execution; results do not depend on the order.
        models: what each run starts from, by ``RunConfig.models_key``.
        results_dir: results directory; finished runs in it are kept.
        preset: stored with each run.
        workers: processes at a time, fewer where GPUs are; None: as many as GPUs or cores allow.
        console: where progress is shown.
        execute: what a worker does with a ``Cell`` job, returns a ``Trained``; trains unless given.
        gpus_per_task: do the runs, but for timed ones, on the Ray cluster to which this process is
            connected, with a CPU and this many GPUs for each; None: in processes of this machine.
        execution: how each run is carried out; None: as ``arms.execution`` says.
        launch: starts the workers of this machine.
        wandb: also send each run there; see ``cells.train_cell``.

    Raises:
        UserError: something asked for is not possible; finished runs are kept.
        RunsFailedError: runs failed; the others were finished.
    """
    cells = {}
    for config in configs:
        start = models[config.models_key]
        cells[config.run_id(start.digest)] = Cell(config, start, execution)
    compact(results_dir)
    missing, warnings = incomplete(results_dir, cells)
    for warning in warnings:
        say(console, f"warning: {warning}")
    jobs = [job_of(run_id, cells[run_id]) for run_id in missing]
    done = len(cells) - len(jobs)
    if done:
        say(console, f"{done} of {len(cells)} cells are already done")
    if not jobs:
        return list(cells)
    require_space(results_dir, [job.payload.config for job in jobs], workers=workers)
    origin = provenance.code_and_host()
    starts = [cells[run_id] for run_id in missing]
    weights = {_start_name(cell.config): cell.models.digest for cell in starts}
    mark_made_by(results_dir, origin, weights)
    train = partial(train_cell, wandb=wandb)
    here = execute or partial(train, origin=origin, checkpoint_dir=results_dir / UNFINISHED)

    def keep(job: Job, trained: Trained) -> None:
        if arms.timed_arm(job.payload.config) is None:  # nothing beside a timed run
            compact(results_dir)
        write(results_dir, preset, job.payload, trained)
        shutil.rmtree(results_dir / UNFINISHED / job.log_name, ignore_errors=True)

    run = partial(run_all, results_dir=results_dir, console=console, keep=keep)
    timed = [job for job in jobs if arms.timed_arm(job.payload.config) is not None]
    untimed = [job for job in jobs if arms.timed_arm(job.payload.config) is None]
    if untimed and gpus_per_task is not None:
        # Here, since Ray is an extra.
        from bench.processes.on_ray import connection

        directories = _checkpoints(untimed)
        run(
            untimed,
            execute or partial(train, directories=directories),
            workers=connection.slots(cpus=1, gpus=gpus_per_task),
            unit="cells",
            already_done=done,
            launch=_ray_launch(directories, gpus_per_task),
        )
    elif untimed:
        run(
            untimed,
            here,
            workers=shares(untimed, workers),
            unit="cells",
            already_done=done,
            launch=launch,
        )
    if timed:
        if (busy := arms.load_warning()) is not None:
            say(console, f"warning: {busy}")
        done += len(untimed)
        run(timed, here, workers=shares(timed, 1), unit="timed cells", already_done=done)
    return list(cells)


def run_all(
    jobs: Sequence[Job],
    execute: Execute,
    *,
    results_dir: Path,
    workers: int | Sequence[Gpus],
    console: Console,
    unit: str,
    already_done: int = 0,
    keep: Callable[[Job, Any], None] | None = None,
    **options: Any,
) -> None:
    """Run jobs with a display and have the result of each kept.

    Args:
        jobs: started in this order.
        execute: see ``run_jobs``.
        results_dir: gets the logs of failures.
        workers: see ``run_jobs``.
        console: where progress is shown.
        unit: what the jobs are, for the display and for messages.
        already_done: jobs of earlier sittings, for the display.
        keep: called with every finished job and its result, one after the other.
        options: of ``run_jobs``.

    Raises:
        UserError: a job was refused, or its result cannot be kept; the others are stopped. Or the
            directory cannot be written.
        RunsFailedError: jobs failed; the others were finished.
    """
    if not jobs:
        return
    store.check_writable(results_dir / LOGS)
    _bound_logs(results_dir / LOGS)
    mark(results_dir)
    failures: list[Event] = []
    events = run_jobs(jobs, execute, workers=workers, log_dir=results_dir / LOGS, **options)
    with closing(events), Display(jobs, console, unit, already_done=already_done) as display:
        for event in events:
            if event.kind == "finished" and keep is not None:
                keep(jobs[event.index], event.result)
            display.add(event)
            if event.kind == "refused":
                raise UserError(event.error)
            if event.kind == "failed":
                failures.append(event)
                _bound_logs(results_dir / LOGS, keep=f"{jobs[failures[0].index].log_name}.log")
    if failures:
        first = failures[0]
        raise RunsFailedError(
            f"{len(failures)} of {len(jobs)} {unit} failed, the others are done; first: "
            f"{jobs[first.index].label}: {first.error}"
        )


def _bound_logs(logs: Path, keep: str = "") -> None:
    """Delete all but the newest logs, and of a long one all but its end."""
    with suppress(OSError):  # another's, or gone
        newest = sorted(logs.glob("*.log"), key=lambda path: -path.stat().st_mtime_ns)
        for at, path in enumerate(newest):
            if at >= MOST_LOGS and path.name != keep:
                path.unlink()
            elif path.stat().st_size > LOG_BYTES:
                with path.open("rb") as file:
                    file.seek(-LOG_BYTES, os.SEEK_END)
                    end = file.read()
                path.write_bytes(end)


@contextmanager
def locked(results_dir: Path) -> Iterator[None]:
    """Lock a results directory for one sweep; the lock ends with the process.

    Raises:
        UserError: another process holds it, or it is not writable.
    """
    store.check_writable(results_dir)
    path = results_dir / ".lock"
    try:
        file = path.open("w")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; delete it") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another sweep is running in {results_dir}; wait for it or choose another --out"
            ) from None
        yield


def build_models(
    parts: Sequence[SftConfig | RewardConfig],
    cache_dirs: Sequence[Path],
    *,
    workers: int | None,
    console: Console,
) -> None:
    """Train models, each in a worker of its own: first all SFT models, then the reward models.

    Args:
        parts: the models.
        cache_dirs: they are put into the first; reward models start from SFT models in any.
        workers: as in ``sweep``.
        console: where progress is shown.

    Raises:
        UserError: a model cannot be trained as configured.
        RunsFailedError: a training failed; the others of its kind were finished.
    """
    sft = [Job(f"SFT model {p.model}", p.name, 1, p) for p in parts if isinstance(p, SftConfig)]
    reward = [
        Job(f"reward model {part.model} seed {part.seed}", part.name, 1, part)
        for part in parts
        if isinstance(part, RewardConfig)
    ]
    for jobs, unit in ((sft, "SFT models"), (reward, "reward models")):
        run_all(
            jobs,
            partial(_build, cache_dirs),
            results_dir=cache_dirs[0].parent,
            workers=deal(inventory(), workers, each=1),
            console=console,
            unit=unit,
            report_timeout_s=STAGE_TIMEOUT_S,
        )


def _start_name(config: RunConfig) -> str:
    """Return what a run starts from in words, for the marker."""
    stage = config.stage
    seed = f" seed {config.seed}" if stage.reward_per_seed else ""
    return f"{stage.task.name} {stage.sizes}{seed}"


def _checkpoints(jobs: Sequence[Job]) -> list[Path]:
    """Return the directories that runs start from."""
    starts = [job.payload.models for job in jobs]
    return sorted({path for start in starts for path in start.directories()})


def _ray_launch(directories: Sequence[Path], gpus: float) -> Launch:
    """Return a launcher of workers on the cluster; the directories are copied to their machines."""
    from bench.processes.on_ray.parcels import Parcel
    from bench.processes.on_ray.worker import RayWorker

    needs = [Parcel.of(path) for path in directories]
    return partial(RayWorker, needs=needs, name="its process", gpus=gpus)


def _build(cache_dirs: Sequence[Path], job: Job, on_progress: OnProgress) -> None:  # noqa: ARG001
    import torch

    from bench.stages import build

    torch.set_num_threads(1)
    build(job.payload, cache_dirs)
