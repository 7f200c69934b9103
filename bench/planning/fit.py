"""Whether a run fits into the memory of its devices, and what would fit. Loads no model.

A device is a GPU by its name, as ``bench.processes.devices`` has it, or ``cpu``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bench.config import Execution, RunConfig
from bench.engines import engine_class
from bench.errors import UserError
from bench.experiments import arms
from bench.experiments.space import size
from bench.planning.memory import Memory, Shape, memory
from bench.processes.devices import Gpus, deal, inventory, memory_bytes

CPU = "cpu"
USABLE = 0.95  # of a device: the driver and the allocator keep some
PYTHIA = {  # as EleutherAI published them
    "410m": Shape(hidden=1024, layers=24, inner=4096, vocabulary=50304),
    "1b": Shape(hidden=2048, layers=16, inner=8192, vocabulary=50304),
    "2.8b": Shape(hidden=2560, layers=32, inner=10240, vocabulary=50304),
    "6.9b": Shape(hidden=4096, layers=32, inner=16384, vocabulary=50432),
}


def shapes(config: RunConfig) -> tuple[Shape, Shape | None] | None:
    """Return the shapes of policy and reward model; None: of a model that is not known here.

    Where rewards are by rule, the reward model's is None.

    Raises:
        UserError: the hub directory in use lacks a model.
    """
    stage = config.stage
    released = stage.released()
    if released is not None:
        sft, rewarding = released
        policy, reward = _released(sft), None if rewarding is None else _released(rewarding)
        unknown = policy is None or (reward is None and rewarding is not None)
        return None if unknown or policy is None else (policy, reward)
    from bench.stages.tiny_models import SIZES, gpt_neox_config  # imports torch

    sizes = stage.model, stage.reward_model or stage.model
    if not set(sizes) <= set(SIZES):
        return None
    tokenizer = stage.task.build().tokenizer
    policy, reward = (Shape.of_config(gpt_neox_config(name, tokenizer).to_dict()) for name in sizes)
    return policy, None if stage.task.rule_reward else reward


def _released(source: str) -> Shape | None:
    """Return the shape of a local checkpoint, or of one of Pythia's sizes by its name."""
    if (Path(source) / "config.json").exists():
        return Shape.of_directory(Path(source))
    named = re.search(r"pythia-?(\d[\d.]*[mb])", source)
    return PYTHIA.get(named[1]) if named else None


def placed(config: RunConfig, execution: Execution, gpus: Gpus) -> tuple[str, str | None]:
    """Return the devices of learner and engine; no engine: it is in the learner's process, or away.

    Args:
        config: the run.
        execution: how it is carried out.
        gpus: of ``inventory``.
    """
    own = deal(gpus, 1, arms.gpus_of(config, execution))[0] if gpus else ()

    def named(device: str) -> str:
        number = int(device.partition(":")[2] or 0)
        return CPU if device == CPU else own[number] if number < len(own) else device

    learner = named(execution.device or ("cuda" if own else CPU))
    if execution.source == "inline" or execution.workers != "local":
        return learner, None
    if execution.engine_device is not None:
        return learner, named(execution.engine_device)
    others = [name for name in own if name != learner]
    return learner, others[0] if others and learner != CPU else learner


def needed(config: RunConfig, execution: Execution, gpus: Gpus) -> dict[str, Memory]:
    """Return what each device must hold; nothing if a model is not known.

    Another engine than the Hugging Face one counts with its weights alone: it fits its cache to
    what is free.

    Raises:
        UserError: the hub directory in use lacks a model, or data are missing.
    """
    known = shapes(config)
    if known is None:
        return {}
    on_learner, on_engine = placed(config, execution, gpus)
    learner, engine = memory(
        config,
        *known,
        prompt_tokens=config.stage.task.longest_prompt_tokens(),
        judge_bytes=_judge_bytes(config, gpu=on_learner != CPU),
        inline=execution.source == "inline",
    )
    if engine is not None and config.engine != "hf":
        engine = Memory(engine.lasting, {"generation": {}})
    if engine is None or on_engine is None:
        return {on_learner: learner}
    if on_engine == on_learner:
        return {on_learner: learner.beside(engine)}
    return {on_learner: learner, on_engine: engine}


def _judge_bytes(config: RunConfig, *, gpu: bool) -> int:
    source = config.stage.task.judge()
    shape = _released(source) if source is not None else None
    return (2 if gpu else 4) * shape.scorer if shape is not None else 0


def host_bytes() -> int | None:
    """Return the memory that this machine, or this container, has; None: not known."""
    found = []
    with suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(ValueError, OSError):  # "max" is no number
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return min(found, default=None)


def known_bytes(gpus: Gpus) -> dict[str, int]:
    """Return the memory of each device that is known: of GPUs, and of the CPU."""
    host = host_bytes()
    return memory_bytes(gpus) | ({} if host is None else {CPU: host})


def require_fits(config: RunConfig, execution: Execution) -> None:
    """Refuse a run that does not fit into the memory of a device that is known.

    Raises:
        UserError: it does not; the message says what would.
    """
    gpus = inventory()
    lacks = too_large(config, execution, gpus, known_bytes(gpus))
    if lacks is not None:
        raise UserError(lacks)


def too_large(
    config: RunConfig, execution: Execution, gpus: Gpus, there: Mapping[str, int]
) -> str | None:
    """Return what a device lacks and what would fit, as a sentence; None: the run fits.

    Args:
        config: the run.
        execution: how it is carried out.
        gpus: names, as of ``inventory``.
        there: bytes of each device that is known.
    """
    lacking = _lacking(config, execution, gpus, there)
    if lacking is None:
        return None
    device, bytes_needed = lacking
    least = bytes_needed
    for flags, run, how in _smaller(config, execution, gpus):
        still = _lacking(run, how, gpus, there)
        if still is None:
            advice = f"{flags} would fit"
            break
        least = min(least, still[1])
    else:
        advice = f"the smallest batch needs {size(least)}, so only a smaller --model would fit"
    return (
        f"model {config.stage.model}, {config.algorithm.name}: needs {size(bytes_needed)} on "
        f"{device}, which has {size(there[device])}; {advice}"
    )


def _lacking(
    config: RunConfig, execution: Execution, gpus: Gpus, there: Mapping[str, int]
) -> tuple[str, int] | None:
    """Return a device that is too small and what it would need, or None."""
    for device, one in needed(config, execution, gpus).items():
        if device in there and one.peak > USABLE * there[device]:
            return device, one.peak
    return None


def _smaller(
    config: RunConfig, execution: Execution, gpus: Gpus
) -> Iterator[tuple[str, RunConfig, Execution]]:
    """Yield runs that need less of a device, the nearest first, and the flags that make them.

    An engine elsewhere, generation in parts and smaller micro-batches change no number but its
    rounding. Smaller batches are another experiment.
    """
    if execution.source == "inline" and len(gpus) > 1:
        yield "--execution.source overlapped", config, replace(execution, source="overlapped")
    prompts = config.prompts_per_batch
    for flags, run in _in_parts(config):
        yield flags, run, execution
    while (prompts := prompts // 2) >= 1:
        smaller, flag = replace(config, prompts_per_batch=prompts), f"--prompts-per-batch {prompts}"
        yield flag, smaller, execution
        for flags, run in _in_parts(smaller):
            yield f"{flags} {flag}", run, execution


def _in_parts(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    """Yield runs whose engine or learner, or both, have fewer rows at a time."""
    k = config.algorithm.completions_per_prompt
    rows = k * config.prompts_per_batch
    engine = [None] if config.engine != "hf" else [None, *_halves(config.engine_rows or rows, k)]
    for at_once in engine:
        run, flag = config, ""
        if at_once is not None:
            run, flag = replace(config, engine_rows=at_once), f"--engine-rows {at_once}"
            yield flag, run
        for part in _halves(config.microbatch_rows or rows, k):
            fewer = replace(run, microbatch_rows=part)
            yield f"{flag} --microbatch-rows {part}".strip(), fewer


def _halves(rows: int, least: int) -> list[int]:
    """Return half of the rows, half of that, and so on."""
    found = []
    while (rows := rows // 2) >= least:
        found.append(rows)
    return found


def executions(config: RunConfig) -> dict[str, Execution]:
    """Return how a run is carried out on split devices and, if that is possible, on all."""
    split = {"split": Execution(source="overlapped")}
    return split if engine_class(config.engine).own_process else {**split, "whole": Execution()}


def memory_table(
    configs: Sequence[RunConfig], gpus: Gpus, there: Mapping[str, int]
) -> pd.DataFrame:
    """Return what each device must hold, and what it has where that is known.

    Args:
        configs: the runs.
        gpus: names, as of ``inventory``.
        there: bytes of each device that is known.
    """
    return pd.DataFrame(
        [
            {
                "model": config.stage.model,
                "devices": devices,
                "on": device,
                "needs": size(one.peak),
                "has": size(there[device]) if device in there else "-",
                "largest_part": max(one.parts.items(), key=lambda part: part[1])[0],
            }
            for config in configs
            for devices, how in executions(config).items()
            for device, one in needed(config, how, gpus).items()
        ]
    )
