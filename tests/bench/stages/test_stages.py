"""The stages before RL: what is trained, where it is kept, and what is refused."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from bench.errors import UserError
from bench.stage_config import StageConfig, StageParams
from bench.stages import CURVES, build, find, missing, resolve, trainers
from bench.stages.tiny_models import SIZES
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
SFT, REWARD = STAGE.sft().name, STAGE.reward(0).name


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def models(cache_dir: Path) -> StageModels:
    return resolve(STAGE, 0, cache_dir=cache_dir)


@pytest.fixture
def copied(models: StageModels, tmp_path: Path) -> Path:
    """Return a cache directory with a copy of the checkpoints, to be damaged."""
    return shutil.copytree(models.sft_dir.parent, tmp_path / "copied")


def files(directory: Path) -> set[str]:
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}


def provenance(directory: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((directory / "provenance.json").read_text())
    return record


def test_resolve_leaves_the_two_models_with_their_records_and_nothing_else(
    cache_dir: Path, models: StageModels
) -> None:
    saved = {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "provenance.json", "training_curves.parquet",
    }  # fmt: skip
    assert {path.name for path in cache_dir.iterdir()} == {SFT, REWARD}
    assert files(cache_dir / SFT) == saved | {"generation_config.json"}
    assert files(cache_dir / REWARD) == saved
    assert (models.sft_dir, models.reward_dir) == (cache_dir / SFT, cache_dir / REWARD)


def test_digests_are_of_the_sft_models_weights_and_of_both(models: StageModels) -> None:
    sft, reward = (
        (directory / "model.safetensors").read_bytes()
        for directory in (models.sft_dir, models.reward_dir)
    )
    assert models.digest == hashlib.sha256(sft + reward).hexdigest()[:12]
    assert models.sft_digest == hashlib.sha256(sft).hexdigest()[:12]


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
    sft, reward = provenance(models.sft_dir), provenance(models.reward_dir)
    assert sft["config"] == STAGE.sft().identity()
    assert (reward["config"], reward["seed"]) == (STAGE.reward(0).identity(), 0)
    assert sft["weights_digest"] == reward["sft_digest"] == models.sft_digest
    assert reward["pair_digest"] == models.digest
    weights = (models.reward_dir / "model.safetensors").read_bytes()
    assert reward["weights_digest"] == hashlib.sha256(weights).hexdigest()[:12]
    assert reward["sha256"]["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert reward["comparisons"] == 100
    assert 0 <= reward["reward_agreement"] <= 1
    assert 0 < reward["reward_agreement_n"] <= 64
    for record in (sft, reward):
        assert record["wall_s"] > 0
        assert record["trl"] is not None


def test_each_model_has_its_training_curve_and_sft_learns(models: StageModels) -> None:
    sft, reward = (
        pq.read_table(directory / "training_curves.parquet")
        for directory in (models.sft_dir, models.reward_dir)
    )
    assert sft.schema.names == reward.schema.names == CURVES.names
    # Logged every 25 steps: SFT has 50, the reward model 100 comparisons in batches of 4.
    assert sft["step"].to_pylist() == [25, 50]
    assert reward["step"].to_pylist() == [25]
    first, last = sft["loss"].to_pylist()
    assert last < first
    assert all(0 <= row["accuracy"] <= 1 for row in sft.to_pylist() + reward.to_pylist())


def test_resolve_trains_once(
    cache_dir: Path, models: StageModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trains in ("_train_sft", "_train_reward"):
        monkeypatch.setattr(stages, trains, lambda *_: pytest.fail("trained again"))
    assert resolve(STAGE, 0, cache_dir=cache_dir) == models
    assert resolve(STAGE, 5, cache_dir=cache_dir) == models  # of all seeds
    build(STAGE.reward(0), [cache_dir])  # as for a worker whose predecessor died at its end


def test_models_made_anew_are_bit_identical_and_made_silently(
    models: StageModels,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    elsewhere, cache = tmp_path_factory.mktemp("cwd"), tmp_path_factory.mktemp("again")
    monkeypatch.chdir(elsewhere)
    torch.manual_seed(123)  # must not matter
    again = resolve(STAGE, 0, cache_dir=cache)
    for made, before in ((again.sft_dir, models.sft_dir), (again.reward_dir, models.reward_dir)):
        names = ("config.json", "model.safetensors", "tokenizer.json", "training_curves.parquet")
        assert all((made / name).read_bytes() == (before / name).read_bytes() for name in names)
    assert list(elsewhere.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_what_interrupted_trainings_left_is_removed_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = STAGE.reward(0).name
    for left in (f".{SFT}-a1b2c3d4/new", f".{SFT}-e5f6a7b8", f".{other}-a1b2c3d4"):
        (tmp_path / left).mkdir(parents=True)
    found = []

    def interrupt(*_: object) -> None:
        found.extend(path.name for path in tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "_train_sft", interrupt)
    with pytest.raises(KeyboardInterrupt):
        resolve(STAGE, 0, cache_dir=tmp_path)
    assert f".{other}-a1b2c3d4" in found  # another's, which is not built now
    (mine,) = (path for path in found if path.startswith(f".{SFT}-"))
    assert mine not in (f".{SFT}-a1b2c3d4", f".{SFT}-e5f6a7b8")
    assert [path.name for path in tmp_path.iterdir()] == [f".{other}-a1b2c3d4"]


def test_a_crash_while_the_reward_model_trains_leaves_the_sft_model(
    tmp_path: Path, models: StageModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    shutil.copytree(models.sft_dir, tmp_path / SFT)
    monkeypatch.setattr(trainers, "train_reward", crash)
    with pytest.raises(KeyboardInterrupt):
        resolve(STAGE, 0, cache_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [SFT]
    assert find(STAGE, 0, [tmp_path]) is None
    assert missing(STAGE, 0, [tmp_path]) == [STAGE.reward(0)]


def test_all_that_is_written_while_training_lies_in_the_models_own_directory(
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
    resolve(STAGE, 0, cache_dir=cache)
    parts = [path.relative_to(cache).parts[0] for path in scratches]
    assert [part.rpartition("-")[0] for part in parts] == [f".{SFT}", f".{REWARD}"]
    assert list(temporary.iterdir()) == []


def test_find_takes_the_first_directory_that_has_them(
    copied: Path, cache_dir: Path, models: StageModels, tmp_path: Path
) -> None:
    empty = tmp_path / "none"
    assert find(STAGE, 0, [empty]) is None
    assert find(replace(STAGE, seed=1), 0, [cache_dir]) is None
    assert find(STAGE, 0, [empty, cache_dir, copied]) == models
    shutil.rmtree(copied / SFT)  # each model on its own
    found = find(STAGE, 0, [copied, cache_dir])
    assert found == replace(models, reward_dir=copied / REWARD)


@pytest.mark.parametrize("part", [SFT, REWARD])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_find_refuses_a_checkpoint_that_lacks_a_file(copied: Path, part: str, file: str) -> None:
    (copied / part / file).unlink()
    with pytest.raises(UserError, match=rf"{part}: has no config.json or no safetensors; delete"):
        find(STAGE, 0, [copied])


@pytest.mark.parametrize("part", [SFT, REWARD])
def test_find_refuses_a_damaged_config(copied: Path, part: str) -> None:
    file = copied / part / "config.json"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError) as raised:
        find(STAGE, 0, [copied])
    assert str(raised.value).startswith(f"{file}: ")
    assert str(raised.value).endswith(f"; delete {copied / part} to have it made anew")
    assert "\n" not in str(raised.value)


def test_find_refuses_truncated_weights(copied: Path) -> None:
    file = copied / SFT / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=rf"{SFT}/model.safetensors: .*; delete"):
        find(STAGE, 0, [copied])


def test_a_damaged_reward_model_names_itself_and_is_made_anew_once_deleted(
    copied: Path, models: StageModels
) -> None:
    file = copied / REWARD / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    for look in (find, missing):
        with pytest.raises(UserError) as raised:
            look(STAGE, 0, [copied])
        assert str(raised.value) == (
            f"{copied / REWARD}: model.safetensors changed since the training; "
            f"delete {copied / REWARD} to have it made anew"
        )
    shutil.rmtree(copied / REWARD)
    assert missing(STAGE, 0, [copied]) == [STAGE.reward(0)]
    assert resolve(STAGE, 0, cache_dir=copied).digest == models.digest


def test_resolve_refuses_what_cannot_be_trained(tmp_path: Path) -> None:
    allowed = ", ".join(SIZES)
    with pytest.raises(UserError, match=f"^model '3m': allowed are {allowed}$"):
        resolve(replace(STAGE, model="3m"), 0, cache_dir=tmp_path)
    with pytest.raises(UserError, match="task tldr_tiny: its models are not released, give stage"):
        resolve(replace(STAGE, params=None), 0, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
