from dataclasses import replace

import pytest
import torch
from transformers import GPTNeoXForCausalLM

from bench import algorithms
from bench.assembly import assemble, usable_device
from bench.config import EvalConfig, RunConfig, StageConfig, StageParams
from bench.errors import UserError
from bench.staleness import lag
from bench.tasks.tldr_tiny.world import TldrTinyConfig
from bench.types import StageModels

from ..conftest import neox_config


def test_without_a_name_a_gpu_is_used_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_device(None) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert usable_device(None) == "cuda"
    assert usable_device("cuda:1") == "cuda:1"
    with pytest.raises(
        UserError, match="device 'cuda:2': this machine has cpu, cuda, cuda:0, cuda:1"
    ):
        usable_device("cuda:2")


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"device 'cuda': this machine has cpu$"):
        usable_device("cuda")


WORLD = TldrTinyConfig(
    subjects=2, verbs=4, objects=4, statements=3, max_own=2, max_clauses=3,
    train_prompts=8, tuning_prompts=8, eval_prompts=8,
)  # fmt: skip


@pytest.fixture
def models(policy, reward_model, tmp_path) -> StageModels:
    """Return checkpoints with a vocabulary of 16, one more than the world's."""
    policy.save_pretrained(tmp_path / "sft")
    reward_model.save_pretrained(tmp_path / "reward")
    return StageModels(tmp_path / "sft", tmp_path / "reward", "")


def refusal(models: StageModels, world: TldrTinyConfig = WORLD) -> str:
    config = RunConfig(
        stage=StageConfig(task=world, model="smoke", params=StageParams()),
        algorithm=algorithms.build("ppo"),
        schedule=lag(1),
        updates=1,
        prompts_per_batch=2,
        learning_rate=0.01,
        max_completion_tokens=8,
        evaluation=EvalConfig(prompts=2, samples=2),
    )
    with pytest.raises(UserError) as raised:
        assemble(config, models)
    return str(raised.value)


def test_a_reward_model_without_a_score_head_is_refused(models, policy):
    policy.save_pretrained(models.reward_dir)
    assert refusal(models) == f"{models.reward_dir}: its *.safetensors have no score.weight"


def test_an_sft_model_without_a_language_model_head_is_refused(models, reward_model):
    reward_model.save_pretrained(models.sft_dir)
    assert refusal(models) == f"{models.sft_dir}: its *.safetensors have no lm_head.weight"


def test_a_model_with_a_smaller_vocabulary_than_the_tasks_is_refused(models):
    too_small = "vocabulary of {} tokens, must be at least the tokenizer's {}"
    assert refusal(models, replace(WORLD, verbs=6)) == (
        f"{models.reward_dir}: {too_small.format(16, 17)}"
    )
    GPTNeoXForCausalLM(neox_config(vocab_size=14)).save_pretrained(models.sft_dir)
    assert refusal(models) == f"{models.sft_dir}: {too_small.format(14, 15)}"


@pytest.mark.parametrize("part", ["sft_dir", "reward_dir"])
def test_a_damaged_config_of_a_model_is_refused_in_one_line(models, part):
    directory = getattr(models, part)
    (directory / "config.json").write_text('{"model_type": "gpt_n')
    message = refusal(models)
    assert message.startswith(f"{directory}: ")
    assert "not a valid JSON file" in message
    assert "\n" not in message
