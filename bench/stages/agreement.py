"""Agreement of a reward model with the gold judge on samples of the SFT model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from bench.engines.hf import HfEngine
from bench.hub import load_model
from bench.randomness import sample_seeds
from bench.tasks.base import Completion, Task
from bench.types import Prompt, Sampling

if TYPE_CHECKING:
    from bench.types import StageModels

ROWS_PER_FORWARD = 256


class PolicySampler:
    """Samples a policy. The samples of a prompt depend on the seed and the prompt only."""

    def __init__(
        self,
        task: Task,
        policy: PreTrainedModel,
        temperature: float,
        max_completion_tokens: int,
        seed: int,
    ) -> None:
        """Wrap a causal language model."""
        self._engine = HfEngine(
            policy,
            pad_token_id=task.tokenizer.pad_token_id,
            eos_token_id=task.tokenizer.eos_token_id,
        )
        self._limits = (temperature, max_completion_tokens)
        self._seed = seed

    def __call__(self, prompts: Sequence[Prompt], k: int) -> list[list[Completion]]:
        """Return k completions of each prompt, with EOS where it was generated."""
        seeds = sample_seeds(self._seed, 0, prompts, k)
        rollouts = self._engine.generate(prompts, Sampling(*self._limits, k), seeds)
        flat = [tuple(completion) for completion in rollouts.completions()]
        return [flat[i : i + k] for i in range(0, len(flat), k)]


def reward_agreement(
    task: Task,
    models: StageModels,
    *,
    max_completion_tokens: int,
    prompts: int = 1024,
    temperature: float = 0.7,
    seed: int = 0,
) -> tuple[float, int]:
    """Return how often the reward model agrees with the gold judge, and on how many pairs.

    The pairs are two samples of the SFT model for each of the first ``prompts`` prompts of split
    ``eval``; pairs that the judge rates equal are left out. If no pair is left, the
    agreement is NaN.

    Raises:
        UserError: a model cannot be loaded.
    """
    policy = load_model(AutoModelForCausalLM, models.sft_dir)
    assert models.reward_dir is not None
    reward_model = load_model(AutoModelForSequenceClassification, models.reward_dir)
    sample = PolicySampler(task, policy, temperature, max_completion_tokens, seed)
    asked = task.prompts("eval")[:prompts]
    first, second = zip(*sample(asked, 2), strict=True)
    gold = task.gold_rewards(asked, first) - task.gold_rewards(asked, second)
    score = _scores(reward_model, asked, first) - _scores(reward_model, asked, second)
    decided = gold != 0
    if not decided.any():
        return float("nan"), 0
    agrees = np.sign(score) == np.sign(gold)
    return float(agrees[decided].mean()), int(decided.sum())


@torch.no_grad()
def _scores(
    reward_model: PreTrainedModel, prompts: Sequence[Prompt], completions: Sequence[Completion]
) -> NDArray[np.float32]:
    """Return the reward model's score of each completion, read at its last token."""
    pad = reward_model.config.pad_token_id
    rows = [(*p.token_ids, *c) for p, c in zip(prompts, completions, strict=True)]
    length = max(map(len, rows))
    tokens = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows])
    parts = tokens.to(reward_model.device).split(ROWS_PER_FORWARD)
    scores = torch.cat([reward_model.eval()(part).logits[:, 0] for part in parts])
    return cast("NDArray[np.float32]", scores.cpu().numpy())
