"""The stages before RL: what is trained, where it is kept, and what is refused."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
)

from bench import stages
from bench.config import StageConfig, StageParams
from bench.errors import UserError
from bench.stages import CURVES, find, resolve, trainers
from bench.tasks.tldr_tiny.world import TldrTinyConfig
from bench.types import StageModels

WORLD = TldrTinyConfig(
    subjects=2, verbs=4, objects=4, statements=3, max_own=2, max_clauses=3,
    train_prompts=8, tuning_prompts=8, eval_prompts=64,
)  # fmt: skip
PARAMS = StageParams(
    sft_steps=50, sft_batch_size=8, sft_warmup_steps=5, comparisons=100,
    max_completion_tokens=14, reward_epochs=1, reward_batch_size=4,
)  # fmt: skip
STAGE = StageConfig(task=WORLD, model="smoke", params=PARAMS)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def models(cache_dir: Path) -> StageModels:
    return resolve(STAGE, cache_dir=cache_dir)


@pytest.fixture
def copied(models: StageModels, tmp_path: Path) -> Path:
    """Return a cache directory with a copy of the checkpoints, to be damaged."""
    stage = models.sft_dir.parent
    shutil.copytree(stage, tmp_path / stage.name)
    return tmp_path


def files(directory: Path) -> set[str]:
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}


def test_resolve_leaves_the_two_checkpoints_and_their_record_and_nothing_else(
    cache_dir: Path, models: StageModels
) -> None:
    checkpoint = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    name = f"smoke-{STAGE.hash()}"
    assert files(cache_dir) == {
        f"{name}/provenance.json",
        f"{name}/training_curves.parquet",
        f"{name}/sft/generation_config.json",
        *(f"{name}/{part}/{file}" for part in ("sft", "reward") for file in checkpoint),
    }
    assert [path.name for path in cache_dir.iterdir()] == [name]
    assert models.sft_dir == cache_dir / name / "sft"


def test_digest_is_of_both_weight_files(models: StageModels) -> None:
    weights = b"".join(
        (directory / "model.safetensors").read_bytes()
        for directory in (models.sft_dir, models.reward_dir)
    )
    assert models.digest == hashlib.sha256(weights).hexdigest()[:12]


def test_checkpoints_load_as_pythias_architecture_with_the_tasks_tokenizer(
    models: StageModels,
) -> None:
    policy = AutoModelForCausalLM.from_pretrained(models.sft_dir)
    reward_model = AutoModelForSequenceClassification.from_pretrained(models.reward_dir)
    tokenizer = AutoTokenizer.from_pretrained(models.sft_dir)
    assert policy.config.model_type == reward_model.config.model_type == "gpt_neox"
    assert policy.config.vocab_size == len(tokenizer) == 15  # 5 specials, 2 + 4 + 4 words
    assert reward_model.config.num_labels == 1
    assert policy.config.eos_token_id == 1
    assert policy.config.pad_token_id == reward_model.config.pad_token_id == 0


def test_reward_model_starts_from_the_sft_model_and_is_read_at_the_last_real_token(
    models: StageModels,
) -> None:
    policy = AutoModelForCausalLM.from_pretrained(models.sft_dir)
    reward_model = AutoModelForSequenceClassification.from_pretrained(models.reward_dir)
    layer = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    moved = (reward_model.state_dict()[layer] - policy.state_dict()[layer]).abs().max()
    # 25 steps of Adam at a rate of at most 1e-3 move no weight by more than about 25e-3; weights
    # drawn anew would differ by several times their standard deviation of 0.02.
    assert 0 < moved < 0.03
    row = [4, 7, 11, 2, 3, 4, 7, 11, 2, 1]
    scores = [reward_model(torch.tensor([row + [0] * n])).logits.item() for n in (0, 5)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    before_eos = reward_model(torch.tensor([row[:-1]])).logits.item()
    assert before_eos != pytest.approx(scores[0], abs=1e-5)


def test_provenance_says_what_was_trained_and_how_well_it_agrees(models: StageModels) -> None:
    record = json.loads((models.sft_dir.parent / "provenance.json").read_text())
    assert record["stage"] == STAGE.identity()
    assert record["stage_hash"] == STAGE.hash()
    assert record["weights_digest"] == models.digest
    assert record["comparisons"] == 100
    assert 0 <= record["reward_agreement"] <= 1
    assert 0 < record["reward_agreement_n"] <= 64
    assert record["wall_s"] >= record["sft_s"] > 0
    assert record["trl"] is not None


def test_training_curves_have_both_stages_and_sft_learns(models: StageModels) -> None:
    table = pq.read_table(models.sft_dir.parent / "training_curves.parquet")
    assert table.schema.names == CURVES.names
    rows = table.to_pylist()
    # Logged every 25 steps: SFT has 50, the reward model 100 comparisons in batches of 4.
    assert [(row["stage"], row["step"]) for row in rows] == [
        ("sft", 25),
        ("sft", 50),
        ("reward", 25),
    ]
    assert rows[1]["loss"] < rows[0]["loss"]
    assert all(0 <= row["accuracy"] <= 1 for row in rows)


def test_resolve_trains_once(
    cache_dir: Path, models: StageModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_train", lambda *_: pytest.fail("trained again"))
    assert resolve(STAGE, cache_dir=cache_dir) == models


def test_fresh_replaces_the_checkpoints_by_bit_identical_ones_silently(
    copied: Path,
    models: StageModels,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    reward_weights = copied / models.reward_dir.parent.name / "reward" / "model.safetensors"
    reward_weights.unlink()
    elsewhere = tmp_path_factory.mktemp("cwd")
    monkeypatch.chdir(elsewhere)
    torch.manual_seed(123)  # must not matter
    again = resolve(STAGE, cache_dir=copied, fresh=True)
    assert again.digest == models.digest
    assert [path.name for path in copied.iterdir()] == [models.sft_dir.parent.name]
    assert list(elsewhere.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_crash_leaves_what_was_there(
    copied: Path, models: StageModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainers, "train_reward", crash)
    short = replace(STAGE, params=replace(PARAMS, sft_steps=1))
    for stage in (STAGE, short):
        with pytest.raises(KeyboardInterrupt):
            resolve(stage, cache_dir=copied, fresh=True)
    assert [path.name for path in copied.iterdir()] == [models.sft_dir.parent.name]
    found = find(STAGE, [copied])
    assert found is not None
    assert found.digest == models.digest


def test_what_interrupted_trainings_left_is_removed_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, other = f"smoke-{STAGE.hash()}", f"smoke-{replace(STAGE, seed=1).hash()}"
    for left in (f".{name}-a1b2c3d4/new/sft", f".{name}-e5f6a7b8", f".{other}-a1b2c3d4"):
        (tmp_path / left).mkdir(parents=True)
    found = []

    def interrupt(*_: object) -> None:
        found.extend(path.name for path in tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "_train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        resolve(STAGE, cache_dir=tmp_path)
    assert f".{other}-a1b2c3d4" in found  # another's, which is not built now
    (mine,) = (path for path in found if path.startswith(f".{name}-"))
    assert mine not in (f".{name}-a1b2c3d4", f".{name}-e5f6a7b8")
    assert [path.name for path in tmp_path.iterdir()] == [f".{other}-a1b2c3d4"]


def test_all_that_is_written_while_training_lies_in_the_stages_own_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, cache = tmp_path / "temporary", tmp_path / "cache"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    scratches = []
    run = trainers._run

    def noted(trainer: Trainer) -> trainers.Curve:
        scratches.append(Path(trainer.args.output_dir))
        assert scratches[-1].is_dir()
        curve = run(trainer)
        assert list(temporary.iterdir()) == []
        return curve

    monkeypatch.setattr(trainers, "_run", noted)
    name = resolve(STAGE, cache_dir=cache).sft_dir.parent.name
    assert len(scratches) == 2
    assert all(path.relative_to(cache).parts[0].startswith(f".{name}-") for path in scratches)
    assert list(temporary.iterdir()) == []


def test_find_takes_the_first_directory_that_has_them(
    copied: Path, cache_dir: Path, models: StageModels, tmp_path: Path
) -> None:
    empty = tmp_path / "none"
    assert find(STAGE, [empty]) is None
    assert find(replace(STAGE, seed=1), [cache_dir]) is None
    assert find(STAGE, [empty, cache_dir, copied]) == models


@pytest.mark.parametrize("part", ["sft", "reward"])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_find_refuses_a_checkpoint_that_lacks_a_file(
    copied: Path, models: StageModels, part: str, file: str
) -> None:
    (copied / models.sft_dir.parent.name / part / file).unlink()
    with pytest.raises(UserError, match=rf"{part}: has no config.json or no safetensors; delete"):
        find(STAGE, [copied])


@pytest.mark.parametrize("part", ["sft", "reward"])
def test_find_refuses_a_damaged_config(copied: Path, models: StageModels, part: str) -> None:
    stage = copied / models.sft_dir.parent.name
    file = stage / part / "config.json"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError) as raised:
        find(STAGE, [copied])
    assert str(raised.value).startswith(f"{file}: ")
    assert str(raised.value).endswith(f"; delete {stage} to have it made anew")
    assert "\n" not in str(raised.value)


def test_find_refuses_truncated_weights(copied: Path, models: StageModels) -> None:
    file = copied / models.sft_dir.parent.name / "sft" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"sft/model.safetensors: .*; delete"):
        find(STAGE, [copied])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "3m"}, "model '3m': allowed are smoke, 0.1m, 0.4m, 2m"),
    ],
)
def test_resolve_refuses_what_cannot_be_trained(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        resolve(replace(STAGE, **changes), cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
