"""Memory of a run by part and device, from its configuration alone. Imports no torch.

Bytes, with P parameters of the policy, R of the reward model, V of the value model (as many as R,
where the algorithm has one), b bytes of the run's dtype, m rows of a micro-batch:

| part | bytes |
|---|---|
| weights; optimiser; gradients | 4 (P + V); 8 (P + V); 4 (P + V) |
| reference; reward model; judge | b P; b R; the task's, if it is a model |
| snapshots | 4 P; in one process S + 2 times under ``lag(S)`` |
| step: temporaries of AdamW | 4 (P + V) |
| cast weights, if b = 2 | 2 (P + V) |
| activations, of a token read | (``HIDDEN[b]`` hidden + 2 b inner) layers |
| activations, of a token cached | 2 b hidden layers |
| logits | ``LOGIT`` per logit of the m completions |
| engine | b P |
| KV cache | 2 b hidden per layer and token of each row, and half a layer that is being copied |
| sampling | ``SAMPLED`` per word of the vocabulary and row |
| prefill | b (4 hidden + 2 inner) per prompt token, beside the prompts' own cache |

One phase follows another: training (activations, logits, cast weights), the optimiser's step
(gradients, step) and, with the engine in the learner's process, generation. Gradients stay until
the next training starts, and through it where there are several micro-batches. The largest phase
counts. The engine has ``engine_rows`` at a time. What allocators, libraries and evaluation take is
not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.config import RunConfig

# Measured: what PyTorch allocates for a GPT-NeoX block and for the log-probs after the head.
HIDDEN = {4: 29.0, 2: 28.0}  # bytes per token, layer and unit of the hidden size
LOGIT = 12.0  # bytes
SAMPLED = 16.0  # bytes
DTYPE_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a GPT-NeoX model."""

    hidden: int
    layers: int
    inner: int
    vocabulary: int

    @property
    def backbone(self) -> int:
        """Parameters without the head: embedding, blocks, last norm."""
        attention = 4 * self.hidden**2 + 4 * self.hidden
        feed_forward = 2 * self.hidden * self.inner + self.inner + self.hidden
        block = attention + feed_forward + 4 * self.hidden
        return self.vocabulary * self.hidden + self.layers * block + 2 * self.hidden

    @property
    def language_model(self) -> int:
        """Parameters with the head of a language model, which is no part of the embedding."""
        return self.backbone + self.vocabulary * self.hidden

    @property
    def scorer(self) -> int:
        """Parameters with the head of a reward or value model."""
        return self.backbone + self.hidden

    @staticmethod
    def of_config(config: Mapping[str, int]) -> Shape:
        """Return the shape that a model's ``config.json`` states."""
        return Shape(
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            inner=config["intermediate_size"],
            vocabulary=config["vocab_size"],
        )

    @staticmethod
    def of_directory(directory: Path) -> Shape:
        """Return the shape of a checkpoint."""
        return Shape.of_config(json.loads((directory / "config.json").read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one device, by part."""

    lasting: Mapping[str, int]  # there all the time
    phases: Mapping[str, Mapping[str, int]]  # by phase, of which there is one at a time

    @property
    def peak(self) -> int:
        """The most that is there at a time."""
        return sum(self.lasting.values()) + max(sum(one.values()) for one in self.phases.values())

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of every part, whatever the phase."""
        phases = {k: v for one in self.phases.values() for k, v in one.items()}
        return {**self.lasting, **phases}

    def beside(self, other: Memory) -> Memory:
        """Return what two sides need that share a device and work at the same time."""
        phases = {
            f"{name}, {theirs}": {**own, **others}
            for name, own in self.phases.items()
            for theirs, others in other.phases.items()
        }
        return Memory({**self.lasting, **other.lasting}, phases)


def memory(
    config: RunConfig,
    policy: Shape,
    reward: Shape | None,
    *,
    prompt_tokens: int,
    judge_bytes: int = 0,
    inline: bool = True,
) -> tuple[Memory, Memory | None]:
    """Return what learner and engine need; no engine of its own if it is in the learner's process.

    Args:
        config: the run.
        policy: its shape.
        reward: the reward model's; None: rewards are by rule.
        prompt_tokens: of the longest prompt.
        judge_bytes: of a judge that is a model.
        inline: whether the engine is in the learner's process.
    """
    size = DTYPE_BYTES[config.dtype]
    values = (reward or policy) if config.algorithm.needs_values else None
    trained = policy.language_model + (values.scorer if values else 0)
    k, after = config.algorithm.completions_per_prompt, config.max_completion_tokens
    rows = k * config.prompts_per_batch
    part = min(config.microbatch_rows or rows, rows)

    def activations(shape: Shape) -> int:
        # The completions of a prompt share its pass, through a cache of their own.
        read = -(-part // k) * prompt_tokens + part * after
        cached = part * (prompt_tokens + after) if k > 1 else 0
        per_token = HIDDEN[size] * shape.hidden + 2 * size * shape.inner
        return int(shape.layers * (per_token * read + 2 * size * shape.hidden * cached))

    # Policy and value model are propagated together, or in parts one after the other.
    passes = [activations(shape) for shape in (policy, values) if shape is not None]
    gradients = {"gradients": 4 * trained}
    training = {
        "activations": sum(passes) if part == rows else max(passes),
        "logits": int(LOGIT * part * after * policy.vocabulary),
        "cast weights": 2 * trained if size == 2 else 0,
    }
    kept = config.schedule.n + 2 if inline and config.schedule.kind == "lag" else 1
    learner = Memory(
        {
            "weights": 4 * trained,
            "optimiser": 8 * trained,
            "reference": size * policy.language_model,
            "reward model": size * reward.scorer if reward else 0,
            "judge": judge_bytes,
            "snapshots": 4 * policy.language_model * kept,
        },
        {
            "training": training if part == rows else training | gradients,
            "step": gradients | {"step": 4 * trained},
        },
    )
    prompts = max(1, min(config.engine_rows or rows, rows) // k)
    engine = _engine(policy, size, prompts, k * prompts, prompt_tokens, after)
    if not inline:
        return learner, engine
    generation = {name: {**parts, **gradients} for name, parts in engine.phases.items()}
    return Memory({**learner.lasting, **engine.lasting}, {**learner.phases, **generation}), None


def _engine(
    policy: Shape, size: int, prompts: int, rows: int, prompt_tokens: int, after: int
) -> Memory:
    """Return what the Hugging Face engine needs for the rows that it has at once."""
    per_token = 2 * size * policy.hidden  # of one layer's cache
    read = prompts * prompt_tokens
    return Memory(
        {"engine": size * policy.language_model},
        {
            "prefill": {
                "KV cache": policy.layers * per_token * read,
                "prefill": size * read * (4 * policy.hidden + 2 * policy.inner),
            },
            "decoding": {
                "KV cache": int((policy.layers + 0.5) * per_token * rows * (prompt_tokens + after)),
                "sampling": int(SAMPLED * rows * policy.vocabulary),
            },
        },
    )
