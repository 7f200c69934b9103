"""Small GPT-NeoX language models, before any training."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerBase

from bench.errors import UserError

# Named by their number of parameters at a vocabulary of 60 words.
SIZES: dict[str, dict[str, int]] = {
    "smoke": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    "0.06m": {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3},
    "0.1m": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "0.4m": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "2m": {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6},
}
CONTEXT_TOKENS = 128


def initial_policy(
    size: str, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> GPTNeoXForCausalLM:
    """Return an untrained policy of one of ``SIZES``, with the tokenizer's vocabulary.

    Raises:
        UserError: there is no such size.
    """
    if size not in SIZES:
        raise UserError(f"model {size!r}: allowed are {', '.join(SIZES)}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPTNeoXForCausalLM(gpt_neox_config(size, tokenizer))


def gpt_neox_config(size: str, tokenizer: PreTrainedTokenizerBase) -> GPTNeoXConfig:
    """Return Pythia's architecture at one of ``SIZES``, without dropout.

    Unlike Pythia's, all of a head's dimensions are rotated: a quarter of 16 would leave too few to
    tell positions apart, and with them copying takes several times as many steps to learn.
    """
    shape: dict[str, Any] = SIZES[size]
    return GPTNeoXConfig(
        vocab_size=len(tokenizer),
        intermediate_size=4 * shape["hidden_size"],
        max_position_embeddings=CONTEXT_TOKENS,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 1.0,
        },
        hidden_dropout=0.0,
        attention_dropout=0.0,
        classifier_dropout=0.0,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
