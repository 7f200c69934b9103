"""Reward models of their own size and for each run seed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from bench import stages
from bench.stages import find, missing, resolve
from bench.types import StageModels

from .test_stages import PARAMS, STAGE

PER_SEED = replace(STAGE, reward_per_seed=True)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def by_seed(cache_dir: Path) -> list[StageModels]:
    return [resolve(PER_SEED, seed, cache_dir=cache_dir) for seed in (0, 1)]


def weights(directory: Path) -> bytes:
    return (directory / "model.safetensors").read_bytes()


def test_each_seed_has_a_reward_model_of_its_own_and_all_share_the_sft_model(
    cache_dir: Path, by_seed: list[StageModels]
) -> None:
    first, second = by_seed
    assert first.sft_dir == second.sft_dir
    assert first.sft_digest == second.sft_digest
    assert weights(first.reward_dir) != weights(second.reward_dir)
    assert first.digest != second.digest
    assert first.reward_dir.name == second.reward_dir.name.removesuffix("-s1") + "-s0"
    assert len(list(cache_dir.iterdir())) == 3
    # Of the same prompts and samples, so that the agreement of seeds can be compared.
    judged = [
        json.loads((one.reward_dir / "provenance.json").read_text())["reward_agreement_n"]
        for one in by_seed
    ]
    assert judged[0] == judged[1] > 0


def test_a_seed_gives_identical_bytes_twice(by_seed: list[StageModels], tmp_path: Path) -> None:
    again = resolve(PER_SEED, 1, cache_dir=tmp_path)
    assert again.digest == by_seed[1].digest
    assert weights(again.reward_dir) == weights(by_seed[1].reward_dir)


def test_the_reward_model_that_all_runs_share_is_that_of_the_stages_seed(
    cache_dir: Path, by_seed: list[StageModels]
) -> None:
    assert find(STAGE, 7, [cache_dir]) == by_seed[0]  # the stage's seed is 0
    assert find(PER_SEED, 7, [cache_dir]) is None
    assert missing(PER_SEED, 7, [cache_dir]) == [PER_SEED.reward(7)]


def test_the_seed_draws_comparisons_samples_and_training(
    by_seed: list[StageModels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change one use of the seed at a time: each alone gives other weights."""
    del by_seed
    from bench.stages import trainers

    found = {weights(resolve(PER_SEED, 1, cache_dir=tmp_path / "plain").reward_dir)}
    task, train, sampler = type(STAGE.task.build()), trainers.train_reward, stages.PolicySampler
    comparisons = task.comparisons
    with monkeypatch.context() as change:
        change.setattr(task, "comparisons", lambda *args: comparisons(*args[:-1], 0))
        found.add(weights(resolve(PER_SEED, 1, cache_dir=tmp_path / "comparisons").reward_dir))
    with monkeypatch.context() as change:
        change.setattr(stages, "PolicySampler", lambda *args: sampler(*args[:-1], 0))
        found.add(weights(resolve(PER_SEED, 1, cache_dir=tmp_path / "samples").reward_dir))
    with monkeypatch.context() as change:
        change.setattr(trainers, "train_reward", lambda a, b, c, d, _, e: train(a, b, c, d, 0, e))
        found.add(weights(resolve(PER_SEED, 1, cache_dir=tmp_path / "training").reward_dir))
    assert len(found) == 4


def test_a_reward_model_of_another_size_starts_from_the_sft_model_of_that_size(
    cache_dir: Path, by_seed: list[StageModels]
) -> None:
    other = replace(PARAMS, sft_steps=25, comparisons=50)
    stage = replace(PER_SEED, reward_model="0.1m", reward_params=other)
    sft, reward = stage.reward(1).sft, stage.reward(1)
    assert missing(stage, 1, [cache_dir]) == [sft, reward]  # the policy's is there
    found = resolve(stage, 1, cache_dir=cache_dir)
    assert found.sft_dir == by_seed[0].sft_dir
    assert found.reward_dir == cache_dir / reward.name
    record = json.loads((found.reward_dir / "provenance.json").read_text())
    own = json.loads((cache_dir / sft.name / "provenance.json").read_text())
    assert record["sft_digest"] == own["weights_digest"] != found.sft_digest
    assert record["comparisons"] == 50
    model = AutoModelForSequenceClassification.from_pretrained(found.reward_dir)
    assert model.config.hidden_size == 64
    # A policy of that size shares it.
    larger = replace(STAGE, model="0.1m", params=other, reward_per_seed=True)
    assert missing(larger, 1, [cache_dir]) == []


def test_other_hyper_parameters_of_the_reward_model_leave_the_sft_model(
    cache_dir: Path, by_seed: list[StageModels]
) -> None:
    del by_seed
    changed = replace(STAGE, params=replace(PARAMS, reward_learning_rate=1e-2))
    assert missing(changed, 0, [cache_dir]) == [changed.reward(0)]
    changed = replace(STAGE, params=replace(PARAMS, sft_learning_rate=1e-2))
    assert missing(changed, 0, [cache_dir]) == [changed.sft(), changed.reward(0)]
