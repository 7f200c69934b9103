"""Builds a run: models, learner, evaluator, and the source that the execution asks for."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bench.config import Execution, RunConfig
from bench.engines import engine_class
from bench.errors import UserError
from bench.evaluate import Evaluator
from bench.hub import load_model, quiet
from bench.learning.learner import Learner
from bench.learning.logprob_gap import LogprobGap
from bench.learning.parallel import ALONE, Ranks
from bench.learning.scoring import Rule, Scorer
from bench.processes.devices import Gpus, visible
from bench.processes.local import LocalWorker
from bench.randomness import PromptStream
from bench.sources import InlineSource, OverlappedSource, Source
from bench.sources.base import Checksummed, Engine
from bench.sources.handoff import Handoff
from bench.sources.host import EngineHost
from bench.sources.overlapped import Launch
from bench.types import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.tasks.base import Task
    from bench.types import StageModels

HEAD = "score.weight"  # of a sequence classifier


def assemble(
    config: RunConfig,
    models: StageModels,
    execution: Execution | None = None,
    ranks: Ranks = ALONE,
) -> tuple[Source, Learner, Evaluator]:
    """Load the models and connect source, learner and evaluator. The caller closes the source.

    Args:
        config: the run.
        models: what it starts from.
        execution: how it is carried out.
        ranks: those of the learner; this one is rank 0.

    Raises:
        UserError: unknown task, algorithm or parameter, or a model cannot be loaded.
    """
    execution = execution or Execution()
    task, algorithm = config.stage.task.build(), config.algorithm
    device = usable_device(execution.device)
    engine_device, engine_gpus = engine_place(device, execution.engine_device)
    frozen = getattr(torch, config.dtype)
    learner = assemble_learner(config, models, task, device, ranks)
    evaluator = Evaluator(config, task, learner.scorer)
    stream = PromptStream(task.prompts("train"), config.prompts_per_batch, config.seed)
    sampling = Sampling(
        config.temperature,
        config.max_completion_tokens,
        algorithm.completions_per_prompt,
        config.engine_rows,
    )
    if execution.source == "inline":
        engine = engine_builder(config, task.tokenizer, device)(models.sft_dir)
        inline = InlineSource(engine, config.schedule, stream, sampling, config.seed)
        return inline, learner, evaluator
    overlapped = OverlappedSource(
        _launch(config, models.sft_dir, task.tokenizer, execution, engine_device, engine_gpus),
        Handoff(dtype=frozen),
        config.schedule,
        stream,
        sampling,
        config.seed,
        batches=config.updates,
        execution=execution,
        device=device,
        logprob_gap=None
        if issubclass(engine_class(config.engine), Checksummed)
        else LogprobGap(learner.policy, config.temperature),
    )
    try:
        overlapped.wait_until_started()
    except BaseException:
        overlapped.close()
        raise
    return overlapped, learner, evaluator


def assemble_learner(
    config: RunConfig, models: StageModels, task: Task, device: str, ranks: Ranks
) -> Learner:
    """Load the models of a learner, or of one rank of it.

    Raises:
        UserError: a model cannot be loaded, or ranks have too little to share.
    """
    algorithm, frozen = config.algorithm, getattr(torch, config.dtype)
    if ranks.size > config.prompts_per_batch:
        raise UserError(
            f"{ranks.size} ranks: at most one for each prompt of a batch, "
            f"prompts_per_batch = {config.prompts_per_batch}"
        )
    if ranks.size > 1 and config.late == "drop":
        raise UserError("late = 'drop': what is left may be too little for all ranks; take one")

    def load(
        auto: Any, directory: Path, dtype: torch.dtype = torch.float32, **options: Any
    ) -> PreTrainedModel:
        tokens = len(task.tokenizer)
        model: PreTrainedModel = load_model(
            auto, directory, vocabulary_tokens=tokens, dtype=dtype, **options
        ).to(device)
        return model

    reward: PreTrainedModel | Rule = task.gold_rewards
    if models.reward_dir is not None:
        reward = load(AutoModelForSequenceClassification, models.reward_dir, frozen)
        # A score is read before the padding, which is the task's, whatever a released model says.
        reward.config.pad_token_id = task.tokenizer.pad_token_id
    scorer = Scorer(
        reward,
        load(AutoModelForCausalLM, models.sft_dir, frozen),
        temperature=config.temperature,
        missing_eos_penalty=config.missing_eos_penalty,
        microbatch_rows=config.microbatch_rows,
    )
    return Learner(
        config,
        algorithm,
        load(AutoModelForCausalLM, models.sft_dir),
        scorer,
        value_model(load, models) if algorithm.needs_values else None,
        ranks,
    )


def on_rank(execution: Execution) -> Execution:
    """Return how this rank of several is carried out: on a GPU of its own, where there are any.

    The engine of rank 0, if it has a process of its own, is on the GPU after the ranks' or, where
    there is none, on rank 0's.

    Raises:
        UserError: there are too few GPUs, or devices or cores are given to all ranks alike.
    """
    local_rank, local_size = (int(os.environ[n]) for n in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if execution.pin_cores or execution.device not in (None, "cpu"):
        raise UserError("ranks cannot have the same device or cores: leave device and pin_cores")
    gpus = 0 if execution.device == "cpu" else _gpu_count()
    if not gpus:
        return replace(execution, device="cpu")
    if gpus < local_size:
        raise UserError(f"{local_size} ranks need a GPU each, this machine has {gpus}")
    engine = execution.engine_device
    if (execution.source, execution.workers) == ("overlapped", "local"):
        engine = engine or f"cuda:{local_size if gpus > local_size else 0}"
    return replace(execution, device=f"cuda:{local_rank}", engine_device=engine)


def value_model(load: Callable[..., PreTrainedModel], models: StageModels) -> PreTrainedModel:
    """Return where a value model starts: as the reward model, as in the authors' code.

    Where rewards are by rule it is the SFT model with a head that says 0 of everything.
    """
    if models.reward_dir is not None:
        return load(AutoModelForSequenceClassification, models.reward_dir)
    with quiet():  # about the head
        values = load(
            AutoModelForSequenceClassification, models.sft_dir, num_labels=1, untrained=[HEAD]
        )
    torch.nn.init.zeros_(values.get_parameter(HEAD))
    return values


def usable_device(name: str | None) -> str:
    """Return a device by name; without one, the GPU if there is one, else the CPU.

    Raises:
        UserError: the machine has no such device.
    """
    gpus = _gpu_count()
    name = name or ("cuda" if gpus else "cpu")
    allowed = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{i}" for i in range(gpus))]
    if name not in allowed:
        raise UserError(f"device {name!r}: this machine has {', '.join(allowed)}")
    return name


def engine_place(learner: str, named: str | None = None) -> tuple[str, Gpus]:
    """Return where an engine computes that has a process of its own on this machine.

    Args:
        learner: the learner's device.
        named: the engine's, among those that this process sees; None: a GPU that is not the
            learner's, if there is one, else the learner's device.

    Returns:
        The device as the engine's process sees it, and the GPUs that the process is given: one or,
        for an engine on the CPU, those of this process.

    Raises:
        UserError: the machine has no such device.
    """
    if named is not None:
        usable_device(named)
    count = _gpu_count()
    names = visible() or tuple(map(str, range(count)))
    # Of several MIG devices CUDA shows a process the first.
    gpus = names if names and names[0].startswith("MIG-") else names[:count]
    if named is None:
        another = "cuda:1" if _index(learner) == 0 else "cuda:0"
        named = another if learner != "cpu" and len(gpus) > 1 else learner
    return ("cpu", ()) if named == "cpu" else ("cuda", (gpus[_index(named)],))


def _gpu_count() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _index(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def _launch(
    config: RunConfig,
    model_dir: Path,
    tokenizer: PreTrainedTokenizerBase,
    execution: Execution,
    device: str,
    gpus: Gpus,
) -> Launch:
    """Return what starts the run's engine where the execution wants it."""
    if execution.workers == "local":
        build = engine_builder(config, tokenizer, device)
        return local_launch(partial(build, model_dir), execution, gpus)
    # Here, since Ray is an extra.
    from bench.sources.on_ray import ray_launch

    build = engine_builder(config, tokenizer, "cuda" if execution.engine_gpus else "cpu")
    return ray_launch(build, model_dir, execution)


def engine_builder(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, device: str
) -> Callable[[Path], Engine]:
    """Return what builds the run's engine around a checkpoint, in any process.

    Raises:
        UserError: there is no engine of that name.
    """
    return partial(
        engine_class(config.engine).from_checkpoint,
        dtype=config.dtype,
        device=device,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def local_launch(
    engine: Callable[[], Engine], execution: Execution, gpus: Gpus = ()
) -> Callable[[Path], LocalWorker]:
    """Return what starts an engine in a process of this machine.

    Args:
        engine: picklable; builds the engine.
        execution: its threads and cores.
        gpus: see ``LocalWorker``.
    """
    _, cores = execution.cores()

    def launch(directory: Path) -> LocalWorker:
        return LocalWorker(
            partial(EngineHost, engine, directory),
            name="the engine's process",
            threads=execution.engine_threads,
            cores=cores,
            gpus=gpus,
            run_directory=directory,
        )

    return launch
