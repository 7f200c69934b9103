"""A few updates on this machine, timed: engine and learner in turn, and beside each other."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import GPTNeoXForSequenceClassification
from transformers.utils.logging import disable_progress_bar

from bench.assembly import assemble
from bench.config import RunConfig
from bench.errors import UserError
from bench.experiments import arms
from bench.loop import on_learner_cores
from bench.planning.predict import Measured, slowdown_of
from bench.planning.simulation import Work
from bench.stages import find
from bench.stages.tiny_models import gpt_neox_config, initial_policy
from bench.types import StageModels, Timed

WARM_UP = 3  # updates, not counted: caches fill, and an overlapped run starts with a wait
LEAST = WARM_UP + 3  # updates, however long they take
ENOUGH_S = 15.0  # of updates in one arm

Say = Callable[[str], None]


def measure(config: RunConfig, caches: list[Path], updates: int, say: Say) -> Measured:
    """Time some updates in each arm of ``bench.experiments.arms``; nothing is recorded.

    Without the run's SFT and reward models in ``caches``, untrained ones of their shapes are used.
    They take as long for a token, and their completions are of other lengths.

    Args:
        config: the run; its schedule is of no matter.
        caches: directories of checkpoints.
        updates: in each arm, of which the first ``WARM_UP`` do not count; fewer, but ``LEAST``, if
            they take longer than ``ENOUGH_S``.
        say: is told what is being done, in one line.

    Raises:
        UserError: there are too few updates, or the run cannot start.
    """
    if updates < LEAST:
        raise UserError(f"--measured-updates {updates}: must be at least {LEAST}")
    disable_progress_bar()
    with TemporaryDirectory() as directory:
        models = find(config.stage, config.seed, caches)
        if models is None:
            say(f"{config.stage.model}: no checkpoints there, measuring with untrained models")
            models = untrained(config, Path(directory))
        possible: tuple[Timed, ...] = arms.ARMS if arms.available_cores() > 1 else ("whole",)
        work = {}
        for timed in possible:
            say(f"{config.stage.model}: {updates} updates, {timed}")
            work[timed] = _updates(config, models, timed, updates)
    if "split" not in work:
        say("one core: engine and learner cannot have cores of their own")
        return Measured(model=config.stage.model, whole=work["whole"])
    return Measured(
        model=config.stage.model,
        split=work["split"],
        whole=work["whole"],
        slowdown=slowdown_of(work["split"], work["overlapped"]),
    )


def _updates(
    config: RunConfig, models: StageModels, timed: Timed, updates: int
) -> tuple[Work, ...]:
    """Return what the batches after the warm-up took in one arm, evaluation left out.

    Loading is what the learner waits beyond generation where the two take turns. With it come the
    batch's way to the learner, and checksums. In overlap it is what the engine says.
    """
    run = arms.arm(replace(config, updates=updates + 1), timed)
    execution = arms.execution(run)
    source, learner, _ = assemble(run, models, execution)
    found = []
    with closing(source), on_learner_cores(execution):
        source.publish(learner.snapshot())
        first = time.perf_counter()
        for _ in range(updates):
            start = time.perf_counter()
            rollouts = source.next()
            waited = time.perf_counter()
            measured = learner.step(rollouts)
            learned = time.perf_counter()
            source.publish(learner.snapshot())
            end = time.perf_counter()
            one = Work(
                generate_s=rollouts.generate_s,
                train_s=measured.score_s + measured.learn_s,
                load_s=max(0.0, waited - start - rollouts.generate_s),
                publish_s=end - learned,
            )
            found.append(one)
            if end - first > ENOUGH_S and len(found) >= LEAST:
                break
        if timed == "overlapped":
            loads = {
                one.step: one.end_s - one.start_s for one in source.spans if one.name == "load"
            }
            found = [replace(one, load_s=loads.get(i, 0.0)) for i, one in enumerate(found)]
    return tuple(found[WARM_UP:])


def untrained(config: RunConfig, directory: Path) -> StageModels:
    """Save untrained models of a run's shapes and return where they are.

    Raises:
        UserError: there is no such size.
    """
    stage, tokenizer = config.stage, config.stage.task.build().tokenizer
    initial_policy(stage.model, tokenizer, seed=0).save_pretrained(directory / "sft")
    tokenizer.save_pretrained(directory / "sft")
    if stage.task.rule_reward:
        return StageModels(directory / "sft", None, "untrained", "untrained")
    settings = gpt_neox_config(stage.reward_model or stage.model, tokenizer)
    settings.num_labels = 1
    torch.manual_seed(0)
    GPTNeoXForSequenceClassification(settings).save_pretrained(directory / "reward")
    tokenizer.save_pretrained(directory / "reward")
    return StageModels(directory / "sft", directory / "reward", "untrained", "untrained")
