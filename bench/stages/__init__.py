"""The two stages before RL, by TRL's trainers: supervised fine-tuning and reward modelling.

Checkpoints are cached by the hash of their ``StageConfig`` as ``<model>-<hash>/{sft,reward}``,
beside ``provenance.json`` and ``training_curves.parquet``. For a task with released checkpoints
nothing is trained.
"""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from bench.config import StageConfig, StageParams
from bench.errors import UserError
from bench.records import provenance, store
from bench.stages.agreement import PolicySampler, reward_agreement
from bench.stages.tiny_models import initial_policy
from bench.tasks.base import Task
from bench.types import StageModels

if TYPE_CHECKING:
    from bench.stages.trainers import Curve

PROVENANCE = "provenance.json"
CURVES = pa.schema([
    ("stage", pa.string()), ("step", pa.int64()), ("loss", pa.float64()),
    ("accuracy", pa.float64()),  # of tokens (sft) or of comparisons (reward), while training
    ("learning_rate", pa.float64()), ("grad_norm", pa.float64()),
])  # fmt: skip


def resolve(stage: StageConfig, *, cache_dir: Path, fresh: bool = False) -> StageModels:
    """Return the stage's checkpoints, training them if ``cache_dir`` has none.

    Whoever has it train must be alone in ``cache_dir``: what interrupted trainings of the stage
    left there is removed first.

    Args:
        stage: what to train.
        cache_dir: where checkpoints are kept.
        fresh: train even if there are some, and replace them.

    Raises:
        UserError: the stage cannot be trained, or what is in the cache is damaged.
    """
    if not fresh and (found := find(stage, [cache_dir])):
        return found
    if stage.params is None:
        raise UserError(f"task {stage.task.name}: its models are not released, give stage params")
    task = stage.task.build()
    store.check_writable(cache_dir)
    final = cache_dir / checkpoint_name(stage)
    prefix = f".{final.name}-"
    for left in cache_dir.glob(f"{glob.escape(prefix)}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=cache_dir) as temporary:
        built = Path(temporary) / "new"
        built.mkdir()
        _train(stage, stage.params, task, built)
        if final.exists():
            final.rename(Path(temporary) / "old")
        built.rename(final)
    return _trained(final)


def find(stage: StageConfig, cache_dirs: Sequence[Path]) -> StageModels | None:
    """Return the stage's checkpoints from the first directory that has them, or None.

    For a task with released checkpoints the directories are ignored.

    Raises:
        UserError: a checkpoint lacks a file or has a damaged one.
    """
    if (sources := stage.task.released(stage.model)) is not None:
        return _models(*map(_local, sources), repair="put the model's files there")
    for cache_dir in cache_dirs:
        path = cache_dir / checkpoint_name(stage)
        if path.exists():
            return _checked(path)
    return None


def checkpoint_name(stage: StageConfig) -> str:
    """Return the name of the stage's directory within a cache."""
    return f"{stage.model.replace('/', '--')}-{stage.hash()}"


def _train(stage: StageConfig, params: StageParams, task: Task, directory: Path) -> None:
    # Here, since TRL takes seconds to import and runs that find their checkpoints need none of it.
    from bench.stages.trainers import quiet, train_reward, train_sft

    start, started_utc = time.perf_counter(), provenance.now_utc()
    policy = initial_policy(stage.model, task.tokenizer, seed=stage.seed)
    pairs = islice(task.sft_pairs(), params.sft_steps * params.sft_batch_size)
    curve = train_sft(policy, task.tokenizer, pairs, params, stage.seed, directory / "sft")
    sft_s = time.perf_counter() - start

    sample = PolicySampler(
        task, policy, params.comparison_temperature, params.max_completion_tokens, stage.seed
    )
    comparisons = task.comparisons(params.comparisons, sample, stage.seed)
    curve += train_reward(
        directory / "sft", task.tokenizer, comparisons, params, stage.seed, directory / "reward"
    )
    wall_s = time.perf_counter() - start

    models = _trained(directory)
    with quiet():
        agreement, pairs_judged = reward_agreement(
            task, models, max_completion_tokens=params.max_completion_tokens, seed=stage.seed
        )
    pq.write_table(_curve_table(curve), directory / "training_curves.parquet")
    record = {
        "stage_hash": stage.hash(),
        "stage": stage.identity(),
        "weights_digest": models.digest,
        "sha256": {
            str(file.relative_to(directory)): _sha256(file)
            for part in (models.sft_dir, models.reward_dir)
            for file in sorted(part.iterdir())
        },
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
    (directory / PROVENANCE).write_text(json.dumps(record, indent=2) + "\n")


def _trained(path: Path) -> StageModels:
    return _models(path / "sft", path / "reward", repair=_repair(path))


def _checked(path: Path) -> StageModels:
    """Return trained checkpoints whose files are those that were saved, as provenance says."""
    models = _trained(path)
    try:
        record = json.loads((path / PROVENANCE).read_bytes())
        digest, checksums = record["weights_digest"], dict(record.get("sha256", {}))
        changed = [name for name, saved in checksums.items() if _sha256(path / name) != saved]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: {PROVENANCE} or a file that it names is missing or damaged; {_repair(path)}"
        ) from error
    if digest != models.digest or changed:
        raise UserError(
            f"{path}: {', '.join(changed) or 'its weights'} changed since the training; "
            f"{_repair(path)}"
        )
    return models


def _repair(path: Path) -> str:
    return f"delete {path} to have it made anew"


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _models(*directories: Path, repair: str) -> StageModels:
    digest = hashlib.sha256()
    for directory in directories:
        weights, config = sorted(directory.glob("*.safetensors")), directory / "config.json"
        if not weights or not config.exists():
            raise UserError(
                f"checkpoint {directory}: has no config.json or no safetensors; {repair}"
            )
        try:
            json.loads(config.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{config}: {error}; {repair}") from error
        for file in weights:
            try:
                with safe_open(file, framework="numpy"):
                    digest.update(file.read_bytes())
            except (OSError, SafetensorError) as error:
                raise UserError(f"{file}: {error}; {repair}") from error
    sft_dir, reward_dir = directories
    return StageModels(sft_dir, reward_dir, digest.hexdigest()[:12])


def _local(source: str) -> Path:
    """Return the directory of a released model, downloaded where ``source`` is a hub id."""
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError) as error:
        raise UserError(f"model {source}: {str(error).splitlines()[0]}") from error


def _curve_table(curve: Curve) -> pa.Table:
    rows = [{name: entry.get(name) for name in CURVES.names} for entry in curve]
    return pa.Table.from_pylist(rows, schema=CURVES)
