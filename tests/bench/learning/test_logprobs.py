import pytest
import torch

from bench.learning.logprobs import completion_logprobs, completion_scores, completion_values
from bench.learning.sequences import Sequences
from bench.types import Rollouts

from ...conftest import EOS, PAD

PAIR = [([5, 6], [7, 8, EOS]), ([3, 4, 5], [9, EOS])]
ROWS = {
    "no prompt twice": PAIR,
    "left-padded prompts twice": [*PAIR, ([5, 6], [9]), ([3, 4, 5], [6, 7, 8])],
    "one prompt for all": [([3, 4, 5], [9, EOS]), ([3, 4, 5], [6, 7, 8])],
    "one token": [([5, 6], [7]), ([3, 4, 5], [EOS]), ([5, 6], [8])],
    "a real token like padding": [([PAD, 5, 6], [7, EOS]), ([5, 6], [8]), ([5, 6], [9, 3])],
}


@pytest.fixture(params=ROWS)
def rows(request):
    return ROWS[request.param]


def batch(rows):
    """Return (prompt, completion) pairs as a batch, prompts padded left, completions right."""
    prompt = max(len(prompt) for prompt, _ in rows)
    completion = max(len(completion) for _, completion in rows)
    tokens = torch.full((len(rows), prompt + completion), PAD)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    for i, (before, after) in enumerate(rows):
        at = slice(prompt - len(before), prompt + len(after))
        tokens[i, at] = torch.tensor(before + after)
        mask[i, at] = True
    return Sequences.of(
        Rollouts(
            policy_version=0,
            prompts=(),
            completions_per_prompt=1,
            prompt_tokens=tokens[:, :prompt],
            prompt_mask=mask[:, :prompt],
            completion_tokens=tokens[:, prompt:],
            completion_mask=mask[:, prompt:],
            logprobs=torch.zeros(len(rows), completion),
            finished=mask[:, -1],
        )
    )


@torch.no_grad()
def test_completion_logprobs_equal_unpadded_rows_token_by_token(policy, rows):
    got = completion_logprobs(policy, batch(rows), 0.7)
    for row, (prompt, completion) in enumerate(rows):
        for t, token in enumerate(completion):
            logits = policy(torch.tensor([prompt + completion[:t]])).logits[0, -1] / 0.7
            expected = torch.log_softmax(logits, -1)[token]
            assert torch.isclose(got[row, t], expected, atol=1e-5)
        assert (got[row, len(completion) :] == 0).all()  # masked


@torch.no_grad()
def test_completion_values_read_the_state_before_each_token(reward_model, rows):
    got = completion_values(reward_model, batch(rows))
    for row, (prompt, completion) in enumerate(rows):
        for t in range(len(completion)):
            hidden = reward_model.gpt_neox(torch.tensor([prompt + completion[:t]]))
            expected = reward_model.score(hidden.last_hidden_state[0, -1])[0]
            assert torch.isclose(got[row, t], expected, atol=1e-5)
        assert (got[row, len(completion) :] == 0).all()


@torch.no_grad()
def test_completion_scores_are_those_of_the_unpadded_sequence(reward_model, rows):
    got = completion_scores(reward_model, batch(rows))
    for row, (prompt, completion) in enumerate(rows):
        expected = reward_model(torch.tensor([prompt + completion])).logits[0, 0]
        assert torch.isclose(got[row], expected, atol=1e-5)


def test_the_gradient_is_the_sum_of_the_rows_own(policy, rows):
    completion_logprobs(policy, batch(rows), 0.7).sum().backward()
    together = [parameter.grad.clone() for parameter in policy.parameters()]
    policy.zero_grad()
    for row in rows:
        completion_logprobs(policy, batch([row]), 0.7).sum().backward()
    for parameter, expected in zip(policy.parameters(), together, strict=True):
        assert torch.allclose(parameter.grad, expected, atol=1e-5)


def test_completion_logprobs_give_padding_no_gradient(policy):
    embedding = policy.get_input_embeddings().weight
    completion_logprobs(policy, batch(PAIR), 1.0).sum().backward()
    assert embedding.grad[PAD].abs().sum() == 0
    assert embedding.grad[5].abs().sum() > 0
