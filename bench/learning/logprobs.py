"""Forward passes over prompt + completion: log-probs of a policy, values and scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from bench.learning.sequences import Sequences


def positions(mask: Tensor) -> dict[str, Any]:
    """Return the model arguments that place tokens: nothing where no row is left-padded.

    Right padding needs no mask: under causal attention it changes nothing to its left, and
    leaving the mask out takes the faster attention kernel.
    """
    if bool(mask[:, 0].all()):
        return {}
    return {"attention_mask": mask.long(), "position_ids": (mask.cumsum(1) - 1).clamp_(min=0)}


def completion_logprobs(model: PreTrainedModel, sequences: Sequences, temperature: float) -> Tensor:
    """Return log-probs [R, T] of the completions' tokens, 0 where masked.

    Arguments are those of ``completion_logprobs_and_entropies``.
    """
    return _chosen(_distributions(model, sequences, temperature), sequences)


def completion_logprobs_and_entropies(
    model: PreTrainedModel, sequences: Sequences, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return log-probs of the completions' tokens, and entropies of what they were drawn from.

    Both [R, T], the log-probs 0 where masked, the entropies in nats and without gradient.

    Args:
        model: a causal language model.
        sequences: R rows, completions of at most T tokens.
        temperature: logits are divided by it, as the engine does before sampling.
    """

    logprobs = _distributions(model, sequences, temperature)
    return _chosen(logprobs, sequences), entropy(logprobs.detach())


def entropy(logprobs: Tensor) -> Tensor:
    """Return the entropy in nats of distributions over the last dimension: [..., V] -> [...]."""
    return -(logprobs.exp() * logprobs).sum(-1)


def _distributions(model: PreTrainedModel, sequences: Sequences, temperature: float) -> Tensor:
    """Return log-probs [R, T, V] of all tokens at the places of the completions' tokens."""

    def forward(keep: int, **inputs: Any) -> Tensor:
        logits: Tensor = model(logits_to_keep=keep, **inputs).logits
        return logits

    logits = _outputs(forward, model, sequences, read_last=False)
    return torch.log_softmax(logits.float() / temperature, -1)


def _chosen(logprobs: Tensor, sequences: Sequences) -> Tensor:
    before = sequences.prompt_length
    chosen = logprobs.gather(-1, sequences.tokens[:, before:, None])[..., 0]
    return chosen * sequences.mask[:, before:]


def completion_values(model: Any, sequences: Sequences) -> Tensor:
    """Return values [R, T]: the score head at the position before each completion token.

    ``model`` is a sequence classifier with one label, as TRL's RewardTrainer saves it.
    """
    values = _scores(model, sequences, read_last=False)
    return values * sequences.mask[:, sequences.prompt_length :]


def completion_scores(model: Any, sequences: Sequences) -> Tensor:
    """Return scores [R]: the score head at each completion's last token.

    This is what ``model``, a sequence classifier with one label, gives for the whole sequence.
    """
    last = sequences.mask[:, sequences.prompt_length :].sum(1, keepdim=True)
    return _scores(model, sequences, read_last=True).gather(1, last)[:, 0]


def _scores(model: Any, sequences: Sequences, *, read_last: bool) -> Tensor:
    backbone = getattr(model, model.base_model_prefix)

    def forward(keep: int, **inputs: Any) -> Tensor:
        scores: Tensor = model.score(backbone(**inputs).last_hidden_state[:, -keep:])
        return scores[..., 0].float()

    return _outputs(forward, model, sequences, read_last=read_last)


def _outputs(
    forward: Callable[..., Tensor],
    model: PreTrainedModel,
    sequences: Sequences,
    *,
    read_last: bool,
) -> Tensor:
    """Return a model's outputs [R, 1 + L, ...] at the last prompt token and at each after it.

    Rows with the same prompt share its forward and backward pass, through the key-value cache: of
    K completions per prompt, K - 1 of its passes are saved.

    Args:
        forward: called with how many of the last positions to keep and the model's arguments.
        model: whose configuration the cache follows.
        sequences: R rows, completions of at most T tokens.
        read_last: whether the model reads the last token (L = T) or not (L = T - 1).
    """
    end = sequences.tokens.shape[1] - (0 if read_last else 1)
    tokens, mask = sequences.tokens[:, :end], sequences.mask[:, :end]
    prompts, prompt_of_row = sequences.prompts, sequences.prompt_of_row
    before = sequences.prompt_length
    after = end - before
    if len(prompts) == len(tokens):
        return forward(1 + after, input_ids=tokens, use_cache=False, **positions(mask))

    cache = DynamicCache(config=model.config)
    cached: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
    first = forward(1, input_ids=prompts.clamp(min=0), **cached, **positions(prompts >= 0))
    first = first[prompt_of_row]
    if not after:
        return first
    cache.batch_select_indices(prompt_of_row)
    placed = positions(mask)
    if "position_ids" in placed:
        placed["position_ids"] = placed["position_ids"][:, before:]
    return torch.cat([first, forward(after, input_ids=tokens[:, before:], **cached, **placed)], 1)
