"""The models that RL starts from, by TRL's trainers: SFT models and reward models.

Each is a directory of a cache, called ``sft-<size>-<hash>`` or ``reward-<size>-<hash>-s<seed>``
after its ``SftConfig`` or ``RewardConfig``. It holds the model, ``provenance.json`` and
``training_curves.parquet``. For a task with released checkpoints nothing is trained.
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
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM

from bench.errors import UserError
from bench.hub import load_model, quiet
from bench.records import provenance, store
from bench.stage_config import RewardConfig, SftConfig, StageConfig
from bench.stages.agreement import PolicySampler, reward_agreement
from bench.stages.tiny_models import initial_policy
from bench.types import StageModels

if TYPE_CHECKING:
    from bench.stages.trainers import Curve

PROVENANCE = "provenance.json"
CURVES = pa.schema([
    ("step", pa.int64()), ("loss", pa.float64()),
    ("accuracy", pa.float64()),  # of tokens (SFT) or of comparisons (reward), while training
    ("learning_rate", pa.float64()), ("grad_norm", pa.float64()),
])  # fmt: skip


def resolve(stage: StageConfig, run_seed: int, *, cache_dir: Path) -> StageModels:
    """Return what a run starts from, training what ``cache_dir`` lacks.

    Raises:
        UserError: a model cannot be trained, or what is in the cache is damaged.
    """
    for part in missing(stage, run_seed, [cache_dir]):
        build(part, [cache_dir])
    found = find(stage, run_seed, [cache_dir])
    assert found is not None
    return found


def find(stage: StageConfig, run_seed: int, cache_dirs: Sequence[Path]) -> StageModels | None:
    """Return what a run starts from, or None if one of the two models is in no directory.

    For a task with released checkpoints the directories are ignored.

    Raises:
        UserError: a checkpoint lacks a file or has a damaged one.
    """
    if (sources := stage.released()) is not None:
        sft, released = sources
        reward_dir = None if released is None else _local(released)
        return _models(_local(sft), reward_dir, repair="put the model's files there")
    sft_dir = find_part(stage.sft(), cache_dirs)
    if (reward := stage.reward(run_seed)) is None:
        return None if sft_dir is None else _models(sft_dir, None)
    reward_dir = find_part(reward, cache_dirs)
    return None if sft_dir is None or reward_dir is None else _models(sft_dir, reward_dir)


def missing(
    stage: StageConfig, run_seed: int, cache_dirs: Sequence[Path]
) -> list[SftConfig | RewardConfig]:
    """Return what has to be trained before a run, in this order.

    Raises:
        UserError: a checkpoint that is there is damaged, or the stage says nothing of training.
    """
    if stage.released() is not None:
        return []
    reward = stage.reward(run_seed)
    rewards = [] if reward is None or find_part(reward, cache_dirs) is not None else [reward]
    sft = {part.name: part for part in (stage.sft(), *(one.sft for one in rewards))}
    return [*(part for part in sft.values() if find_part(part, cache_dirs) is None), *rewards]


def find_part(part: SftConfig | RewardConfig, cache_dirs: Sequence[Path]) -> Path | None:
    """Return a trained model's directory, in the first of the directories that has it, or None.

    Raises:
        UserError: it lacks a file or has a damaged one.
    """
    for cache_dir in cache_dirs:
        path = cache_dir / part.name
        if path.exists():
            _check(path)
            return path
    return None


def build(part: SftConfig | RewardConfig, cache_dirs: Sequence[Path]) -> None:
    """Train a model into the first of the directories, unless it is there.

    Whoever has it trained must be alone in that directory: what interrupted trainings of the model
    left there is removed first.

    Args:
        part: what to train.
        cache_dirs: where the SFT model that a reward model starts from is looked for.

    Raises:
        UserError: it cannot be trained, or what is in a cache is damaged.
    """
    cache_dir = cache_dirs[0]
    if find_part(part, [cache_dir]) is not None:
        return
    store.check_writable(cache_dir)
    prefix = f".{part.name}-"
    for left in cache_dir.glob(f"{glob.escape(prefix)}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=cache_dir) as temporary:
        built = Path(temporary) / "new"
        built.mkdir()
        if isinstance(part, SftConfig):
            _train_sft(part, built)
        else:
            _train_reward(part, cache_dirs, built)
        built.rename(cache_dir / part.name)


def _train_sft(part: SftConfig, directory: Path) -> None:
    # Here, since TRL takes seconds to import and runs that find their checkpoints need none of it.
    from bench.stages.trainers import train_sft

    start, started_utc = time.perf_counter(), provenance.now_utc()
    task, params = part.task.build(), part.params
    policy = initial_policy(part.model, task.tokenizer, seed=part.seed)
    pairs = islice(task.sft_pairs(), params.sft_steps * params.sft_batch_size)
    curve = train_sft(policy, task.tokenizer, pairs, params, part.seed, directory)
    _record(
        directory,
        curve,
        config=part.identity(),
        started_utc=started_utc,
        wall_s=round(time.perf_counter() - start, 1),
    )


def _train_reward(part: RewardConfig, cache_dirs: Sequence[Path], directory: Path) -> None:
    from bench.stages.trainers import train_reward

    sft_dir = find_part(part.sft, cache_dirs)
    if sft_dir is None:
        raise UserError(f"reward model {part.name}: {part.sft.name}, its SFT model, is not there")
    start, started_utc = time.perf_counter(), provenance.now_utc()
    task, params = part.sft.task.build(), part.params
    with quiet():
        policy = load_model(AutoModelForCausalLM, sft_dir).to(_device())
    sample = PolicySampler(
        task, policy, params.comparison_temperature, params.max_completion_tokens, part.seed
    )
    comparisons = task.comparisons(params.comparisons, sample, part.seed)
    curve = train_reward(sft_dir, task.tokenizer, comparisons, params, part.seed, directory)
    wall_s = time.perf_counter() - start

    models = _models(sft_dir, directory)
    with quiet():  # on the same samples for reward models of all seeds
        agreement, pairs_judged = reward_agreement(
            task, models, max_completion_tokens=params.max_completion_tokens, seed=part.sft.seed
        )
    _record(
        directory,
        curve,
        config=part.identity(),
        seed=part.seed,
        sft_digest=models.sft_digest,
        pair_digest=models.digest,  # the weights digest of runs that start from this pair
        started_utc=started_utc,
        wall_s=round(wall_s, 1),
        comparisons=len(comparisons),
        reward_agreement=agreement,
        reward_agreement_n=pairs_judged,
    )


def _record(directory: Path, curve: Curve, **what: Any) -> None:
    """Write a model's training curve, and what it is, in a form that ``_check`` compares."""
    record = {
        **what,
        "weights_digest": _digest(directory),
        "sha256": {file.name: _sha256(file) for file in sorted(directory.iterdir())},
        "threads": torch.get_num_threads(),
        "device": _device(),
        **provenance.code_and_host(),
    }
    rows = [{name: entry.get(name) for name in CURVES.names} for entry in curve]
    pq.write_table(pa.Table.from_pylist(rows, schema=CURVES), directory / "training_curves.parquet")
    (directory / PROVENANCE).write_text(json.dumps(record, indent=2) + "\n")


def _device() -> str:
    """Return where the trainers compute."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check(path: Path) -> None:
    """Make sure that a trained model's files are those that were saved, as provenance says."""
    weights_digest = _digest(path)
    try:
        record = json.loads((path / PROVENANCE).read_bytes())
        saved, checksums = record["weights_digest"], dict(record["sha256"])
        changed = [name for name, checksum in checksums.items() if _sha256(path / name) != checksum]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: {PROVENANCE} or a file that it names is missing or damaged; {_repair(path)}"
        ) from error
    if saved != weights_digest or changed:
        raise UserError(
            f"{path}: {', '.join(changed) or 'its weights'} changed since the training; "
            f"{_repair(path)}"
        )


def _repair(path: Path) -> str:
    return f"delete {path} to have it made anew"


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _models(sft_dir: Path, reward_dir: Path | None, *, repair: str | None = None) -> StageModels:
    """Return a pair of checkpoints; ``repair``: what to do about damage, None: delete it."""
    digest = hashlib.sha256()
    for file in _weights(sft_dir, repair):
        digest.update(file.read_bytes())
    sft_digest = digest.hexdigest()[:12]
    for file in [] if reward_dir is None else _weights(reward_dir, repair):
        digest.update(file.read_bytes())
    return StageModels(sft_dir, reward_dir, digest.hexdigest()[:12], sft_digest)


def _digest(directory: Path) -> str:
    """Return the digest of one checkpoint's weights."""
    content = b"".join(file.read_bytes() for file in _weights(directory))
    return hashlib.sha256(content).hexdigest()[:12]


def _weights(directory: Path, repair: str | None = None) -> list[Path]:
    """Return a checkpoint's files of weights, in order, all of them sound."""
    repair = repair or _repair(directory)
    weights, config = sorted(directory.glob("*.safetensors")), directory / "config.json"
    if not weights or not config.exists():
        raise UserError(f"checkpoint {directory}: has no config.json or no safetensors; {repair}")
    try:
        json.loads(config.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{config}: {error}; {repair}") from error
    for file in weights:
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file}: {error}; {repair}") from error
    return weights


def _local(source: str) -> Path:
    """Return the directory of a released model, downloaded where ``source`` is a hub id."""
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError) as error:
        raise UserError(f"model {source}: {str(error).splitlines()[0]}") from error
