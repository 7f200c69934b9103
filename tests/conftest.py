"""Shared fixtures: random GPT-NeoX models a few thousand parameters large, and a fake task."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import settings
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, GPTNeoXForSequenceClassification

from bench.tasks.base import Task
from bench.types import Prompt

torch.set_num_threads(1)

settings.register_profile("thorough", max_examples=400)  # see also ``tests.damage.fuzz``
if profile := os.environ.get("HYPOTHESIS_PROFILE"):
    settings.load_profile(profile)


@pytest.fixture(autouse=True)
def on_the_cpu(request, monkeypatch):
    """Hide GPUs from all processes that a test starts, unless it is marked ``gpu``."""
    if "gpu" not in request.keywords:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


PAD, EOS, VOCABULARY = 0, 1, 16


def neox_config(**overrides: object) -> GPTNeoXConfig:
    """Return the configuration of a model small enough to be exact about."""
    fields = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "initializer_range": 0.5,  # far from uniform, so that a misplaced token shows
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "bos_token_id": EOS,
    }
    return GPTNeoXConfig(**{**fields, **overrides})


@pytest.fixture
def policy() -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    return GPTNeoXForCausalLM(neox_config()).eval()


@pytest.fixture
def reward_model() -> GPTNeoXForSequenceClassification:
    torch.manual_seed(1)
    return GPTNeoXForSequenceClassification(neox_config(num_labels=1)).eval()


@pytest.fixture
def prompts() -> tuple[Prompt, ...]:
    """Return six prompts of lengths 3 to 8."""
    rng = np.random.default_rng(0)
    return tuple(Prompt(i, tuple(rng.integers(2, VOCABULARY, 3 + i).tolist())) for i in range(6))


class FakeTokenizer:
    """The three things that the evaluator asks of a tokenizer."""

    pad_token_id, eos_token_id = PAD, EOS

    def decode(self, token_ids: Sequence[int]) -> str:
        return " ".join(str(t) for t in token_ids)


class FakeTask(Task):
    """Gold reward = minus the number of tokens; the reference has three."""

    tokenizer = FakeTokenizer()

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._prompts = prompts

    def prompts(self, split: str) -> Sequence[Prompt]:
        del split
        return self._prompts

    def references(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        return [(2, 3, EOS) for _ in prompts]

    def gold_rewards(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]
    ) -> np.ndarray:
        del prompts
        return np.array([-float(len(c)) for c in completions])


@pytest.fixture
def fake_task(prompts: tuple[Prompt, ...]) -> FakeTask:
    return FakeTask(prompts)
