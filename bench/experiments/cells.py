"""The runs of a sweep as jobs: what a worker does, and how the result is stored.

Imports no torch; the workers do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config import Execution, RunConfig
from bench.experiments import arms
from bench.processes.devices import Gpus, deal, inventory
from bench.processes.pool import Job, OnProgress
from bench.records import provenance, store, wandb_log

if TYPE_CHECKING:
    from bench.learning.parallel import Ranks
    from bench.loop import Progress
    from bench.types import RunResult, StageModels


@dataclass(frozen=True)
class Cell:
    """The payload of a run's job."""

    config: RunConfig
    models: StageModels
    execution: Execution | None = None  # None: as ``arms.execution`` says


@dataclass(frozen=True)
class Trained:
    """The result of a run's job: what ``store.write_run`` needs of it."""

    result: RunResult
    source: str
    provenance: Mapping[str, Any]


def job_of(run_id: str, cell: Cell) -> Job:
    """Return the job that does a run."""
    config, timed = cell.config, arms.timed_arm(cell.config)
    per_round = "per_round " if config.lr_schedule == "per_round" else ""
    return Job(
        label=f"{config.stage.sizes} {config.algorithm.name} {config.schedule} {per_round}"
        f"{timed + ' ' if timed else ''}seed {config.seed}",
        log_name=run_id,
        updates=config.updates,
        payload=cell,
    )


def shares(jobs: Sequence[Job], workers: int | None) -> list[Gpus]:
    """Return the GPUs of each worker that does runs; see ``devices.deal``."""
    gpus, each = inventory(), 1
    if gpus:  # else no engine is asked what it needs, which would import torch
        cells: list[Cell] = [job.payload for job in jobs]
        each = max(arms.gpus_of(cell.config, cell.execution) for cell in cells)
    return deal(gpus, workers, each)


def train_cell(
    job: Job,
    on_progress: OnProgress,
    *copies: Path,
    directories: Sequence[Path] = (),
    checkpoint_dir: Path | None = None,
    origin: Mapping[str, Any] | None = None,
    ranks: Ranks | None = None,
    wandb: wandb_log.Mode | None = None,
) -> Trained:
    """Do a run, in a worker.

    Args:
        job: of a ``Cell``.
        on_progress: called after every update, and with every warning.
        copies: of ``directories``, where the worker is on another machine.
        directories: those that runs start from.
        checkpoint_dir: where an interrupted run is resumed from; None: none is.
        origin: code and host, for the run's provenance; None: those of this process.
        ranks: those of the learner, of which this is rank 0; None: this process is alone.
        wandb: also send the run there as it goes, a timed one when it has ended.

    Raises:
        UserError: wandb refuses, or see ``bench.loop.train``.
    """
    import torch

    from bench.learning.parallel import ALONE
    from bench.loop import train

    ranks = ranks or ALONE
    torch.set_num_threads(1)
    cell: Cell = job.payload
    config, models = cell.config, cell.models
    if copies:
        copy_of = dict(zip(directories, copies, strict=True))
        reward_dir = models.reward_dir and copy_of[models.reward_dir]
        models = replace(models, sft_dir=copy_of[models.sft_dir], reward_dir=reward_dir)
    execution = cell.execution or arms.execution(config)
    timed = arms.timed_arm(config) is not None
    if not timed and execution.checkpoint_dir is None:  # a timed run is not resumed
        execution = replace(execution, checkpoint_dir=checkpoint_dir)
    started = provenance.now_utc()
    with wandb_log.following(config, job.log_name, None if timed else wandb) as send:

        def report(at: Progress) -> None:
            if at.records is not None:
                send(at.records)
            on_progress(at.step, at.win_rate, at.warning)

        result = train(config, models, report, execution, ranks)
        send(result)
    if timed:  # nothing beside it
        with wandb_log.following(config, job.log_name, wandb) as send:
            send(result)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return Trained(
        result,
        source=execution.source,
        provenance={
            **(origin or provenance.code_and_host()),
            "started_utc": started,
            "threads": execution.learner_threads or torch.get_num_threads(),
            "device": device if ranks.size == 1 else f"{ranks.size} ranks, {device}",
        },
    )


def write(results_dir: Path, preset: str, cell: Cell, trained: Trained) -> None:
    """Write a run's tables.

    Raises:
        UserError: they cannot be written.
    """
    store.write_run(
        results_dir,
        cell.config,
        trained.result,
        preset=preset,
        weights_digest=cell.models.digest,
        sft_digest=cell.models.sft_digest,
        timed=arms.timed_arm(cell.config),
        source=trained.source,
        provenance=trained.provenance,
    )
