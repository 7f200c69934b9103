"""The policies before any training."""

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from bench.errors import UserError
from bench.stages.tiny_models import initial_policy
from bench.tasks.generated.task import build_tokenizer
from bench.tasks.tldr_tiny.world import TldrTinyConfig


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return build_tokenizer(TldrTinyConfig())


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        # 2 x 60 embeddings of width w, per layer 12 w^2 + 13 w (4 w^2 + 4 w attention, 8 w^2 + 5 w
        # MLP, 4 w norms), and 2 w of the last norm.
        ("smoke", 120 * 32 + 2 * (12 * 32**2 + 13 * 32) + 2 * 32),
        ("0.1m", 120 * 64 + 2 * (12 * 64**2 + 13 * 64) + 2 * 64),  # 107 776
        ("0.4m", 120 * 128 + 2 * (12 * 128**2 + 13 * 128) + 2 * 128),  # 412 160
        ("2m", 120 * 192 + 4 * (12 * 192**2 + 13 * 192) + 2 * 192),  # 1 802 880
    ],
)
def test_sizes_have_the_parameters_they_are_named_by(
    tokenizer: PreTrainedTokenizerBase, size: str, parameters: int
) -> None:
    assert initial_policy(size, tokenizer, seed=0).num_parameters() == parameters


def test_initial_policy_depends_on_its_seed_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    def weights(seed: int) -> torch.Tensor:
        return initial_policy("smoke", tokenizer, seed=seed).get_output_embeddings().weight

    torch.manual_seed(5)
    first = weights(0)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))  # the global generator was left alone
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))


def test_initial_policy_takes_its_special_tokens_from_the_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    config = initial_policy("smoke", tokenizer, seed=0).config
    assert (config.vocab_size, config.pad_token_id, config.eos_token_id) == (60, 0, 1)
    assert config.hidden_dropout == config.attention_dropout == 0.0


def test_initial_policy_refuses_an_unknown_size(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(UserError, match=r"model '7b': allowed are smoke, 0\.06m, 0\.1m, 0\.4m, 2m"):
        initial_policy("7b", tokenizer, seed=0)
