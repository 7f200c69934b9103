import numpy as np
import pytest
import torch

from bench.engines.hf import HfEngine
from bench.learning.scoring import Scorer
from bench.learning.sequences import Sequences
from bench.randomness import sample_seeds
from bench.types import Sampling

from ...conftest import EOS, PAD


@pytest.fixture
def rollouts(policy, prompts):
    engine = HfEngine(policy, pad_token_id=PAD, eos_token_id=EOS)
    return engine.generate(prompts, Sampling(1.0, 12, 2), sample_seeds(0, 0, prompts, 2))


def score(policy, reward_model, rollouts, *, ref_logprobs=False, **changes):
    scorer = Scorer(
        reward_model, policy, **{"temperature": 1.0, "missing_eos_penalty": None, **changes}
    )
    return scorer.score(rollouts, Sequences.of(rollouts), ref_logprobs=ref_logprobs)


@torch.no_grad()
def test_rewards_equal_the_unpadded_sequence_alone(policy, reward_model, rollouts):
    rewards = score(policy, reward_model, rollouts).rewards
    for row, completion in enumerate(rollouts.completions()):
        sequence = [*rollouts.prompts[row // 2].token_ids, *completion]
        expected = reward_model(torch.tensor([sequence])).logits[0, 0]
        assert torch.isclose(rewards[row], expected, atol=1e-5)


def test_a_missing_eos_replaces_the_reward(policy, reward_model, rollouts):
    plain = score(policy, reward_model, rollouts).rewards
    rewards = score(policy, reward_model, rollouts, missing_eos_penalty=-7.0).rewards
    assert (~rollouts.finished).any()
    assert (rewards[~rollouts.finished] == -7.0).all()
    assert torch.equal(rewards[rollouts.finished], plain[rollouts.finished])


def test_reference_logprobs_of_the_sampling_policy_are_the_behaviour_ones(
    policy, reward_model, rollouts
):
    scored = score(policy, reward_model, rollouts, ref_logprobs=True)
    assert torch.allclose(scored.ref_logprobs, rollouts.logprobs, atol=1e-5)
    assert score(policy, reward_model, rollouts).ref_logprobs is None


def test_micro_batches_change_nothing(policy, reward_model, rollouts):
    whole = score(policy, reward_model, rollouts, ref_logprobs=True)
    parts = score(policy, reward_model, rollouts, ref_logprobs=True, microbatch_rows=5)
    assert torch.allclose(whole.rewards, parts.rewards, atol=1e-5)
    assert torch.allclose(whole.ref_logprobs, parts.ref_logprobs, atol=1e-5)


def test_a_rule_gets_each_completion_with_its_prompt_and_unfinished_ones_are_penalised(
    policy, rollouts
):
    def rule(prompts, completions):
        return np.array(
            [100.0 * p.prompt_id + len(c) for p, c in zip(prompts, completions, strict=True)]
        )

    rows = enumerate(zip(rollouts.completions(), rollouts.finished.tolist(), strict=True))
    expected = [100.0 * (row // 2) + len(c) if done else -7.0 for row, (c, done) in rows]
    scored = score(policy, rule, rollouts, missing_eos_penalty=-7.0, ref_logprobs=True)
    assert scored.rewards.tolist() == expected
    assert scored.rewards.dtype == torch.float32
    assert torch.allclose(scored.ref_logprobs, rollouts.logprobs, atol=1e-5)
