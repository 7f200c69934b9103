"""TRL's trainers minimise what the paper says: checked at learning rate 0 against plain loops."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    GPTNeoXForCausalLM,
    GPTNeoXForSequenceClassification,
    PreTrainedTokenizerBase,
    Trainer,
)

from bench.stage_config import StageParams
from bench.stages import trainers
from bench.stages.tiny_models import initial_policy
from bench.stages.trainers import train_reward, train_sft
from bench.tasks.generated.task import build_tokenizer
from bench.tasks.tldr_tiny.world import TldrTinyConfig
from bench.types import Prompt

STILL = StageParams(
    sft_batch_size=4, sft_learning_rate=1e-30, sft_warmup_steps=0,
    reward_batch_size=4, reward_learning_rate=1e-30, reward_centering=0.25,
)  # fmt: skip
ROWS = 100  # 25 batches of 4: logged once, as their mean


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return build_tokenizer(TldrTinyConfig())


@pytest.fixture
def untrained(tokenizer: PreTrainedTokenizerBase) -> GPTNeoXForCausalLM:
    policy = initial_policy("smoke", tokenizer, seed=0)
    with torch.no_grad():
        for weights in policy.parameters():
            weights.mul_(3)  # far from uniform, so that a wrong token or mask shows
    return policy


def rows(seed: int, length: int) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(2, 60, length + i % 2).tolist()) for i in range(ROWS)]


def test_sft_loss_is_the_cross_entropy_of_the_completion_tokens(
    untrained: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    prompts = rows(0, 3)
    completions = [c[:3] for c in rows(1, 3)]  # equally long, so that batches weigh the same
    expected = []
    for prompt, completion in zip(prompts, completions, strict=True):
        logits = untrained(torch.tensor([[*prompt, *completion]])).logits[0]
        for t, token in enumerate(completion):
            logprobs = logits[len(prompt) + t - 1].log_softmax(-1)
            expected.append(-logprobs[token].item())
    pairs = [(Prompt(i, p), c) for i, (p, c) in enumerate(zip(prompts, completions, strict=True))]
    (entry,) = train_sft(untrained, tokenizer, pairs, STILL, 0, tmp_path / "sft")
    assert entry["loss"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert entry["step"] == 25


def test_reward_loss_is_bradley_terry_plus_centering_at_the_last_token(
    untrained: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    untrained.save_pretrained(tmp_path / "sft")
    prompts = [Prompt(i, row) for i, row in enumerate(rows(0, 3))]
    comparisons = list(zip(prompts, rows(1, 4), rows(2, 2), strict=True))
    (entry,) = train_reward(tmp_path / "sft", tokenizer, comparisons, STILL, 0, tmp_path / "reward")
    model = GPTNeoXForSequenceClassification.from_pretrained(tmp_path / "reward")

    def score(prompt: Prompt, completion: tuple[int, ...]) -> float:
        hidden = model.gpt_neox(torch.tensor([prompt.token_ids + completion])).last_hidden_state
        return (hidden[0, -1] @ model.score.weight[0]).item()

    scores = np.array([[score(p, c), score(p, r)] for p, c, r in comparisons])
    chosen, rejected = scores.T
    bradley_terry = np.log1p(np.exp(rejected - chosen))
    centering = 0.25 * (chosen + rejected) ** 2
    assert entry["loss"] == pytest.approx((bradley_terry + centering).mean(), rel=1e-4)
    assert entry["accuracy"] == pytest.approx((chosen > rejected).mean(), abs=1e-6)
    assert centering.mean() > 1e-3  # large enough to be missed


def test_each_trainer_takes_its_own_hyper_parameters_of_the_optimiser(
    untrained: GPTNeoXForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    run = trainers._run

    def noted(trainer: Trainer) -> trainers.Curve:
        curve = run(trainer)
        optimiser = trainer.optimizer.param_groups[0]
        seen.append((optimiser["betas"][1], optimiser["weight_decay"], trainer.args.warmup_steps))
        return curve

    monkeypatch.setattr(trainers, "_run", noted)
    params = replace(
        STILL, sft_adam_beta2=0.9, sft_weight_decay=0.1, sft_warmup_steps=3,
        reward_adam_beta2=0.8, reward_weight_decay=0.2, reward_warmup_steps=2,
    )  # fmt: skip
    prompts = [Prompt(i, row) for i, row in enumerate(rows(0, 3))]
    for chosen in (STILL, params):
        pairs = list(zip(prompts, rows(1, 3), strict=True))
        train_sft(untrained, tokenizer, pairs, chosen, 0, tmp_path / "sft")
        comparisons = list(zip(prompts, rows(1, 4), rows(2, 2), strict=True))
        train_reward(tmp_path / "sft", tokenizer, comparisons, chosen, 0, tmp_path / "reward")
    assert seen == [(0.999, 0.0, 0), (0.999, 0.0, 0), (0.9, 0.1, 3), (0.8, 0.2, 2)]
