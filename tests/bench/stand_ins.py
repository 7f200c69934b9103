"""Tiny stand-ins for the data set and models of TL;DR, laid out as on the hub."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GPTNeoXForSequenceClassification,
    PreTrainedTokenizerFast,
)

from bench.tasks.tldr import DATASET, GOLD_MODEL, STAGE_MODELS

EOS, PAD = "<|endoftext|>", "<|padding|>"
WORDS = [EOS, PAD, "[UNK]", "TL;DR:", "a", "b", "c", "d", "e", "f"]  # token id = position


def write_rows(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Write one file of the data set from (query, reference) rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    queries, references = zip(*rows, strict=True)
    pq.write_table(
        pa.table({
            "id": [f"t3_{i}" for i in range(len(rows))],
            "query": queries,
            "query_token": [[0] for _ in rows],
            "reference_response": references,
            "reference_response_token_len": [1 for _ in rows],
        }),
        path,
    )  # fmt: skip


def model_config(vocab_size: int = len(WORDS), context_tokens: int = 32) -> GPTNeoXConfig:
    """Return Pythia's architecture, two small layers of it."""
    config = GPTNeoXConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=context_tokens,
        initializer_range=0.5,  # far from uniform, so that a misplaced token shows
    )
    config.num_labels = 1
    return config


def save_tokenizer(directory: Path) -> None:
    """Save a tokenizer of ``WORDS`` where Pythia's would be, beside a model."""
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=EOS, pad_token=PAD, unk_token="[UNK]"
    ).save_pretrained(directory)


def save_all(root: Path) -> None:
    """Save all that presets ``small`` and ``paper`` read, for policies of size 410m."""
    letters = WORDS[4:]
    queries = [" ".join([*word, "TL;DR:"]) for word in product(letters, repeat=5)]
    rows = [(query, f" {query[:3]}{EOS}") for query in queries]
    write_rows(root / DATASET / "data/train-00000-of-00001.parquet", rows[:-600])
    write_rows(root / DATASET / "data/validation-00000-of-00001.parquet", rows[-600:])

    config = model_config(context_tokens=256)
    sft, reward = STAGE_MODELS["410m"]
    save_tokenizer(root / sft)
    for seed, kind, name in (
        (0, GPTNeoXForCausalLM, sft),
        (1, GPTNeoXForSequenceClassification, reward),
        (2, GPTNeoXForSequenceClassification, GOLD_MODEL),
    ):
        torch.manual_seed(seed)
        kind(config).save_pretrained(root / name)
