"""The two stages before RL, by TRL's trainers: supervised fine-tuning and reward modelling.

Checkpoints are cached by the hash of their ``StageConfig`` as ``<model>-<hash>/{sft,reward}``, beside
``provenance.json`` and ``training_curves.parquet``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from bench import provenance
from bench.config import ConfigError, StageConfig
from bench.engines.hf import HfEngine
from bench.models import initial_policy
from bench.sampling import sample_seeds
from bench.tasks import build_task
from bench.tasks.base import Task
from bench.types import Prompt, Sampling

if TYPE_CHECKING:
    from bench.trainers import Curve

Completion = tuple[int, ...]

CURVES = pa.schema([
    ("stage", pa.string()), ("step", pa.int64()), ("loss", pa.float64()),
    ("accuracy", pa.float64()),  # of tokens (sft) or of comparisons (reward), while training
    ("learning_rate", pa.float64()), ("grad_norm", pa.float64()),
])  # fmt: skip


class StageTask(Task, Protocol):
    """A task that the stages can be trained on."""

    def sft_pairs(self) -> Iterator[tuple[Prompt, Completion]]:
        """Yield prompts and references for SFT."""
        ...

    def comparisons(
        self, count: int, sample: SampleFn
    ) -> list[tuple[Prompt, Completion, Completion]]:
        """Return at most ``count`` (prompt, chosen, rejected).

        ``sample(prompts, k)`` gives k completions of each prompt by the SFT model, for tasks whose
        comparisons are not recorded.
        """
        ...


class SampleFn(Protocol):
    """The SFT model as a task's ``comparisons`` sees it."""

    def __call__(self, prompts: Sequence[Prompt], k: int) -> list[list[Completion]]:
        """Return k completions of each prompt."""
        ...


@dataclass(frozen=True, kw_only=True)
class StageParams:
    """Hyper-parameters of the stages (``StageConfig.params``)."""

    sft_steps: int = 1250
    sft_batch_size: int = 128
    sft_learning_rate: float = 3e-3  # cosine
    sft_warmup_steps: int = 100
    comparisons: int = 60000
    comparison_temperature: float = 1.0
    max_completion_tokens: int = 20
    reward_epochs: int = 2
    reward_batch_size: int = 128  # comparisons
    reward_learning_rate: float = 1e-3  # cosine
    reward_centering: float = 0.01  # keeps scores near 0, where the missing-EOS penalty is read
    dtype: str = "float32"

    @staticmethod
    def of(stage: StageConfig) -> StageParams:
        """Read a stage's parameters.

        Raises:
            ConfigError: an unknown parameter or one out of range.
        """
        known = [field.name for field in fields(StageParams)]
        for name, value in stage.params.items():
            if name not in known:
                raise ConfigError(f"stage parameter {name!r}: allowed are {', '.join(known)}")
            if name != "dtype" and value < 0:
                raise ConfigError(f"stage parameter {name} = {value}: must not be negative")
        return StageParams(**stage.params)


@dataclass(frozen=True)
class StageModels:
    """Directories of the two checkpoints, and a digest of their weights."""

    sft_dir: Path
    reward_dir: Path
    digest: str


def resolve(stage: StageConfig, *, cache_dir: Path, fresh: bool = False) -> StageModels:
    """Return the stage's checkpoints, training them if ``cache_dir`` has none.

    Args:
        stage: what to train.
        cache_dir: where checkpoints are kept.
        fresh: train even if there are some, and replace them.

    Raises:
        ConfigError: the stage cannot be trained, or what is in the cache is damaged.
    """
    if not fresh and (found := find(stage, [cache_dir])):
        return found
    params = StageParams.of(stage)
    task = cast(StageTask, build_task(stage.task, stage.task_params))
    cache_dir.mkdir(parents=True, exist_ok=True)
    final = cache_dir / checkpoint_name(stage)
    with tempfile.TemporaryDirectory(prefix=f".{final.name}-", dir=cache_dir) as temporary:
        built = Path(temporary) / "new"
        _train(stage, params, task, built)
        if final.exists():
            final.rename(Path(temporary) / "old")
        built.rename(final)
    return _models(final)


def find(stage: StageConfig, cache_dirs: Sequence[Path]) -> StageModels | None:
    """Return the stage's checkpoints from the first directory that has them, or None.

    Raises:
        ConfigError: a checkpoint lacks a file.
    """
    for cache_dir in cache_dirs:
        path = cache_dir / checkpoint_name(stage)
        if path.exists():
            return _models(path)
    return None


def checkpoint_name(stage: StageConfig) -> str:
    """Return the name of the stage's directory within a cache."""
    return f"{stage.model.replace('/', '--')}-{stage.hash()}"


def reward_agreement(
    stage: StageConfig, models: StageModels, *, prompts: int = 1024, temperature: float = 0.7
) -> tuple[float, int]:
    """Return how often the reward model agrees with the gold judge, and on how many pairs.

    The pairs are two samples of the SFT model for each of the first ``prompts`` prompts of split
    ``eval``; pairs between which the judge is undecided are left out.
    """
    params = StageParams.of(stage)
    task = build_task(stage.task, stage.task_params)
    policy = AutoModelForCausalLM.from_pretrained(models.sft_dir).eval()
    reward_model = AutoModelForSequenceClassification.from_pretrained(models.reward_dir).eval()
    asked = task.prompts("eval")[:prompts]
    sample = Sampler(task, policy, temperature, params.max_completion_tokens, stage.seed)
    sides = list(zip(*sample(asked, 2), strict=True))
    gold = np.subtract(*(task.gold_rewards(asked, side) for side in sides))
    scores = [
        _scores(reward_model, [p.token_ids + c for p, c in zip(asked, side, strict=True)])
        for side in sides
    ]
    decided = gold != 0
    agrees = np.sign(np.subtract(*scores)) == np.sign(gold)
    return float(agrees[decided].mean()), int(decided.sum())


class Sampler:
    """Samples an SFT model for a task's comparisons; each call draws anew."""

    def __init__(
        self, task: Task, policy: Any, temperature: float, max_completion_tokens: int, seed: int
    ) -> None:
        """Wrap a causal language model."""
        tokenizer = task.tokenizer
        self._engine = HfEngine(
            policy, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
        )
        self._limits = (temperature, max_completion_tokens)
        self._seed = seed

    def __call__(self, prompts: Sequence[Prompt], k: int) -> list[list[Completion]]:
        """Return k completions of each prompt, with EOS where it was generated."""
        seeds = sample_seeds(self._seed, 0, prompts, k)
        flat = self._engine.generate(prompts, Sampling(*self._limits, k), seeds).completions()
        return [[tuple(c) for c in flat[i : i + k]] for i in range(0, len(flat), k)]


def _train(stage: StageConfig, params: StageParams, task: StageTask, directory: Path) -> None:
    from bench.trainers import (
        train_reward,
        train_sft,
    )  # TRL takes seconds to import; runs need none

    start, started_utc = time.perf_counter(), provenance.now_utc()
    policy = initial_policy(stage.model, task.tokenizer, seed=stage.seed, dtype=params.dtype)
    pairs = islice(task.sft_pairs(), params.sft_steps * params.sft_batch_size)
    curve = train_sft(policy, task.tokenizer, pairs, params, stage.seed, directory / "sft")
    sft_s = time.perf_counter() - start

    sample = Sampler(
        task, policy, params.comparison_temperature, params.max_completion_tokens, stage.seed
    )
    comparisons = task.comparisons(params.comparisons, sample)
    curve += train_reward(
        directory / "sft", task.tokenizer, comparisons, params, stage.seed, directory / "reward"
    )
    wall_s = time.perf_counter() - start

    agreement, pairs_judged = reward_agreement(stage, _models(directory))
    pq.write_table(_curve_table(curve), directory / "training_curves.parquet")
    record = {
        "stage_hash": stage.hash(),
        "stage": asdict(stage),
        "weights_digest": _models(directory).digest,
        "started_utc": started_utc,
        "wall_s": round(wall_s, 1),
        "sft_s": round(sft_s, 1),
        "comparisons": len(comparisons),
        "reward_agreement": agreement,
        "reward_agreement_n": pairs_judged,
        "threads": torch.get_num_threads(),
        "device": str(policy.device),
        **provenance.code_and_host(),
    }
    (directory / "provenance.json").write_text(json.dumps(record, indent=2) + "\n")


def _models(path: Path) -> StageModels:
    digest = hashlib.sha256()
    for part in ("sft", "reward"):
        weights = sorted((path / part).glob("*.safetensors"))
        if not weights or not (path / part / "config.json").exists():
            raise ConfigError(
                f"checkpoint {path / part}: config.json or safetensors missing; "
                f"delete {path} or train it anew with --fresh"
            )
        for file in weights:
            digest.update(file.read_bytes())
    return StageModels(path / "sft", path / "reward", digest.hexdigest()[:12])


def _curve_table(curve: Curve) -> pa.Table:
    rows = [{name: entry.get(name) for name in CURVES.names} for entry in curve]
    return pa.Table.from_pylist(rows, schema=CURVES)


@torch.no_grad()
def _scores(reward_model: Any, rows: Sequence[Completion]) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the score of each row, a prompt and its completion of any length."""
    pad = reward_model.config.pad_token_id
    scores = []
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        length = max(map(len, part))
        tokens = torch.tensor([[*row, *[pad] * (length - len(row))] for row in part])
        scores.append(reward_model(tokens.to(reward_model.device)).logits[:, 0].float().cpu())
    return torch.cat(scores).numpy()
