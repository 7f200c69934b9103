"""Agreement of a reward model with the gold judge, against counting pair by pair."""

import math
from pathlib import Path

import pytest
import torch
from transformers import GPTNeoXForCausalLM, GPTNeoXForSequenceClassification

from bench.stages.agreement import PolicySampler, reward_agreement
from bench.types import Prompt, StageModels
from tests.conftest import EOS, FakeTask


@pytest.fixture
def models(
    policy: GPTNeoXForCausalLM, reward_model: GPTNeoXForSequenceClassification, tmp_path: Path
) -> StageModels:
    policy.save_pretrained(tmp_path / "sft")
    reward_model.save_pretrained(tmp_path / "reward")
    return StageModels(tmp_path / "sft", tmp_path / "reward", "", "")


def test_sampler_groups_by_prompt_and_keys_draws_by_prompt_and_seed(
    policy: GPTNeoXForCausalLM, fake_task: FakeTask, prompts: tuple[Prompt, ...]
) -> None:
    sample = PolicySampler(fake_task, policy, 1.0, 6, seed=0)
    groups = sample(prompts, 3)
    assert [len(group) for group in groups] == [3] * 6
    assert sample(prompts[2:4], 3) == groups[2:4]
    assert PolicySampler(fake_task, policy, 1.0, 6, seed=1)(prompts, 3) != groups
    assert all(len(c) == 6 or c[-1] == EOS for group in groups for c in group)


def test_agreement_is_the_share_of_decided_pairs_ranked_as_the_judge_ranks_them(
    models: StageModels,
    policy: GPTNeoXForCausalLM,
    reward_model: GPTNeoXForSequenceClassification,
) -> None:
    prompts = tuple(Prompt(i, (2 + i % 5, 7, 3)[: 1 + i % 3]) for i in range(80))
    task = FakeTask(prompts)
    asked = prompts[:60]
    agrees = []
    for prompt, pair in zip(asked, PolicySampler(task, policy, 1.0, 14, 3)(asked, 2), strict=True):
        lengths = [len(completion) for completion in pair]  # the fake judge prefers the shorter
        if lengths[0] != lengths[1]:
            scores = [
                reward_model(torch.tensor([prompt.token_ids + c])).logits.item() for c in pair
            ]
            agrees.append((scores[0] > scores[1]) == (lengths[0] < lengths[1]))
    assert 0 < sum(agrees) < len(agrees)  # a case that can tell
    share, n = reward_agreement(
        task, models, max_completion_tokens=14, prompts=60, temperature=1.0, seed=3
    )
    assert (share, n) == (pytest.approx(sum(agrees) / len(agrees)), len(agrees))


def test_agreement_is_nan_where_the_judge_decides_nothing(
    models: StageModels, prompts: tuple[Prompt, ...]
) -> None:
    task = FakeTask(prompts)
    share, n = reward_agreement(task, models, max_completion_tokens=1)  # all of length 1
    assert math.isnan(share)
    assert n == 0
