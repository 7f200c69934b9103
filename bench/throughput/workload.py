"""The workload of the benchmarks: a preset's models and prompts, and their matrix products.

Weights are random, which costs the same time as trained ones, but no completion ever ends before
the limit: all engines and trainers do the same work, to the token.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GPTNeoXForSequenceClassification,
    PreTrainedTokenizerBase,
)

from bench.config import RunConfig
from bench.engines.hf import HfEngine
from bench.experiments.presets import preset
from bench.randomness import PromptStream, sample_seeds
from bench.stages.tiny_models import gpt_neox_config, initial_policy
from bench.staleness import ON_POLICY
from bench.tasks.base import Task
from bench.throughput.table import Shape
from bench.types import Prompt, Rollouts, Sampling, StageModels

PRESET = os.environ.get("ASYNC_RLHF_BENCH_PRESET", "tiny")
MODELS = {"smoke": ("smoke",), "tiny": ("0.1m", "0.4m", "2m")}[PRESET]
MODEL = MODELS[0]
ALGORITHMS = ("ppo", "rloo", "copg", "online_dpo", "best_of_2")
K = 2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@cache
def task() -> Task:
    """Return the preset's task."""
    return preset(PRESET).stage_of(MODEL).task.build()


def config(algorithm: str, model: str = MODEL) -> RunConfig:
    """Return the preset's run of an algorithm, on policy, for one of ``MODELS``."""
    run = preset(PRESET).run_config(algorithm, ON_POLICY)
    return replace(run, stage=preset(PRESET).stage_of(model))


def batch_rows() -> int:
    """Return how many completions a batch of the preset has."""
    return K * config("rloo").prompts_per_batch


def shape(algorithm: str | None = None, model: str = MODEL, rows: int | None = None) -> Shape:
    """Return the shape of a batch of the preset, or of another number of completions."""
    rows = rows or batch_rows()
    return Shape(
        preset=PRESET,
        model=model,
        algorithm=algorithm,
        rows=rows,
        prompt_tokens=max(len(p.token_ids) for p in prompts(rows // K)),
        completion_tokens=sampling().max_completion_tokens,
    )


def prompts(count: int) -> tuple[Prompt, ...]:
    """Return the first prompts of the training split."""
    return tuple(task().prompts("train")[:count])


def stream() -> PromptStream:
    """Return the batches of the training split."""
    run = config("rloo")
    return PromptStream(task().prompts("train"), run.prompts_per_batch, run.seed)


def sampling() -> Sampling:
    """Return how the preset samples."""
    run = config("rloo")
    return Sampling(run.temperature, run.max_completion_tokens, K)


def policy(model: str = MODEL) -> GPTNeoXForCausalLM:
    """Return a policy that never ends a completion before the limit."""
    tokenizer = task().tokenizer
    built = initial_policy(model, tokenizer, seed=0)
    assert isinstance(built, GPTNeoXForCausalLM)
    never(built.eval(), tokenizer)
    built.to(DEVICE)  # type: ignore[arg-type]
    return built


def reward_model(model: str = MODEL) -> GPTNeoXForSequenceClassification:
    """Return a reward model."""
    torch.manual_seed(0)
    settings = gpt_neox_config(model, task().tokenizer)
    settings.num_labels = 1
    built = GPTNeoXForSequenceClassification(settings)
    built.eval().to(DEVICE)
    return built


def engine(model: str = MODEL) -> HfEngine:
    """Return an engine around ``policy``."""
    tokenizer = task().tokenizer
    return HfEngine(
        policy(model), pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
    )


def rollouts(model: str = MODEL) -> Rollouts:
    """Return one batch of the preset, every completion of full length."""
    chosen = prompts(config("rloo").prompts_per_batch)
    found = engine(model).generate(chosen, sampling(), sample_seeds(0, 0, chosen, K))
    assert bool(found.completion_mask.all())
    return found


def save(directory: Path, model: str = MODEL) -> StageModels:
    """Save policy and reward model as the stages do and return where they are."""
    policy(model).save_pretrained(directory / "sft")
    task().tokenizer.save_pretrained(directory / "sft")
    reward_model(model).save_pretrained(directory / "reward")
    task().tokenizer.save_pretrained(directory / "reward")
    return StageModels(directory / "sft", directory / "reward", "random", "random")


@torch.no_grad()
def never(model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make padding and EOS impossible: a hidden unit that is always 1 has a weight against them."""
    norm, head = model.gpt_neox.final_layer_norm, model.get_output_embeddings()
    norm.weight[0], norm.bias[0] = 0.0, 1.0
    head.weight[:, 0] = 0.0
    head.weight[[tokenizer.pad_token_id, tokenizer.eos_token_id], 0] = -1e4


@dataclass(frozen=True)
class Product:
    """``count`` products of [m, k] with [k, n], each ``batch`` times."""

    count: int
    batch: int
    m: int
    k: int
    n: int

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiplication and an addition for each term."""
        return 2 * self.count * self.batch * self.m * self.k * self.n


def forward_products(
    settings: GPTNeoXConfig, shape: Shape, *, prompts: int, outputs: int, width: int
) -> list[Product]:
    """Return the matrix products that one forward pass needs.

    The completions of a prompt share the prompt's. Attention is counted in full, not halved for
    causality, as is usual.

    Args:
        settings: of the model.
        shape: completions, and how many tokens of prompt and completion the model reads.
        prompts: different ones.
        outputs: positions, in all, at which the head is applied.
        width: of the head: the vocabulary, or 1 for a score.
    """
    hidden, inner = settings.hidden_size, settings.intermediate_size
    layers, heads = settings.num_hidden_layers, settings.num_attention_heads
    rows, before, after = shape.rows, shape.prompt_tokens, shape.completion_tokens
    tokens, size = prompts * before + rows * after, hidden // heads
    attention = [(prompts, before, before), (rows, after, before + after)]  # sequences, from, to
    return [
        Product(layers, 1, tokens, hidden, 3 * hidden),  # queries, keys, values
        *(Product(layers, n * heads, q, size, k) for n, q, k in attention),  # scores
        *(Product(layers, n * heads, q, k, size) for n, q, k in attention),  # weighted values
        Product(layers, 1, tokens, hidden, hidden),
        Product(layers, 1, tokens, hidden, inner),
        Product(layers, 1, tokens, inner, hidden),
        Product(1, 1, outputs, hidden, width),
    ]


def token_products(settings: GPTNeoXConfig, rows: int, prompts: int, width: int) -> list[Product]:
    """Return those of an output for each token of some completions of a batch, read before it.

    So the last token is not read at all, and the first one's output belongs to the prompt.
    """
    whole = shape()
    read = replace(whole, rows=rows, completion_tokens=whole.completion_tokens - 1)
    outputs = prompts + rows * read.completion_tokens
    return forward_products(settings, read, prompts=prompts, outputs=outputs, width=width)


def bare(products: list[Product], *, backward: bool) -> tuple[Callable[[], None], int]:
    """Return a function that does these products and nothing else, and its operations.

    With ``backward`` also the gradients of both factors, which makes three times as many.
    """
    calls: list[tuple[int, Tensor, Tensor, Tensor]] = []
    for p in products:
        x = torch.randn(p.batch, p.m, p.k, device=DEVICE)
        w = torch.randn(p.batch, p.k, p.n, device=DEVICE)
        y = torch.empty(p.batch, p.m, p.n, device=DEVICE)
        calls.append((p.count, x, w, y))
        if backward:
            calls.append((p.count, y, w.mT, torch.empty_like(x)))
            calls.append((p.count, x.mT, y, torch.empty_like(w)))

    def run() -> None:
        for count, left, right, out in calls:
            for _ in range(count):
                torch.matmul(left, right, out=out)

    return run, sum(p.flops for p in products) * (3 if backward else 1)
