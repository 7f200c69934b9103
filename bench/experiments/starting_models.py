"""Finds the SFT and reward models that runs start from, or trains them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import paths
from bench.config import RunConfig
from bench.engines import engine_class
from bench.experiments import arms
from bench.experiments.space import require_space
from bench.experiments.sweep import build_models
from bench.processes.devices import inventory, require_shares
from bench.types import StageModels


def starting_models(
    configs: Sequence[RunConfig],
    *,
    results_dir: Path,
    record_dir: Path | None,
    workers: int | None,
    console: Console,
) -> dict[str, StageModels]:
    """Return what each run starts from, by ``RunConfig.models_key``; train what is missing.

    Args:
        configs: the runs.
        results_dir: the user's results, searched first; new models are put here.
        record_dir: the recorded results, searched next; None: they are not used.
        workers: how many models to train at a time; see ``sweep``.
        console: where progress is shown.

    Raises:
        UserError: a checkpoint is damaged, or the models cannot be trained as configured.
        RunsFailedError: training failed.
    """
    from bench.stages import find, missing  # imports torch

    caches = [results_dir / paths.CHECKPOINTS]
    if record_dir is not None:
        caches.append(record_dir / paths.CHECKPOINTS)
    starts = {config.models_key: (config.stage, config.seed) for config in configs}
    lacking = {key: missing(stage, seed, caches) for key, (stage, seed) in starts.items()}
    if any(lacking.values()):
        waiting = [config for config in configs if lacking[config.models_key]]
        parts = {part.name: part for needed in lacking.values() for part in needed}
        require_space(results_dir, waiting, workers=workers, models=list(parts.values()))
        build_models(list(parts.values()), caches, workers=workers, console=console)
    found = {key: find(stage, seed, caches) for key, (stage, seed) in starts.items()}
    return {key: models for key, models in found.items() if models is not None}


def check(configs: Sequence[RunConfig], workers: int | None) -> None:
    """Check that runs can be started, before anything is deleted, trained or run.

    Args:
        configs: the runs.
        workers: processes at a time, asked for on this machine; None: no number was.

    Raises:
        UserError: an engine is not installed, a task's data or models are missing, or the workers
            need more GPUs than there are.
    """
    from bench.stages import find  # imports torch

    for engine in {config.engine for config in configs}:
        engine_class(engine).require_installed()
    if workers is not None:
        together = [config for config in configs if arms.timed_arm(config) is None]
        require_shares(inventory(), workers, max(map(arms.gpus_of, together), default=1))
    for stage in {config.stage.hash(): config.stage for config in configs}.values():
        stage.task.build()
        find(stage, 0, [])  # released models
