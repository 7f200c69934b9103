import torch

from bench.logprobs import completion_logprobs, completion_values

from ..conftest import EOS, PAD


def batch():
    """Return two rows: a left-padded prompt and a right-padded completion, in turn."""
    tokens = torch.tensor([[PAD, 5, 6, 7, 8, EOS], [3, 4, 5, 9, EOS, PAD]])
    mask = torch.tensor([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]], dtype=torch.bool)
    return tokens, mask  # P = 3, T = 3


@torch.no_grad()
def test_completion_logprobs_equal_unpadded_rows_token_by_token(policy):
    tokens, mask = batch()
    got = completion_logprobs(policy, tokens, mask, 3, 0.7)
    for row, (prompt, completion) in enumerate([([5, 6], [7, 8, EOS]), ([3, 4, 5], [9, EOS])]):
        for t, token in enumerate(completion):
            logits = policy(torch.tensor([prompt + completion[:t]])).logits[0, -1] / 0.7
            expected = torch.log_softmax(logits, -1)[token]
            assert torch.isclose(got[row, t], expected, atol=1e-5)
    assert got[1, 2] == 0  # masked


@torch.no_grad()
def test_completion_values_read_the_state_before_each_token(reward_model):
    tokens, mask = batch()
    got = completion_values(reward_model, tokens, mask, 3)
    for row, (prompt, completion) in enumerate([([5, 6], [7, 8, EOS]), ([3, 4, 5], [9, EOS])]):
        for t in range(len(completion)):
            hidden = reward_model.gpt_neox(torch.tensor([prompt + completion[:t]]))
            expected = reward_model.score(hidden.last_hidden_state[0, -1])[0]
            assert torch.isclose(got[row, t], expected, atol=1e-5)
    assert got[1, 2] == 0


def test_completion_logprobs_give_padding_no_gradient(policy):
    tokens, mask = batch()
    embedding = policy.get_input_embeddings().weight
    completion_logprobs(policy, tokens, mask, 3, 1.0).sum().backward()
    assert embedding.grad[PAD].abs().sum() == 0
    assert embedding.grad[5].abs().sum() > 0
