"""Forward passes over prompt + completion: the policy's log-probs and the value model's values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bench.types import Rollouts


def join(rollouts: Rollouts) -> tuple[Tensor, Tensor]:
    """Return tokens and mask [R, P + T] of prompt and completion."""
    tokens = torch.cat([rollouts.prompt_tokens, rollouts.completion_tokens], 1)
    mask = torch.cat([rollouts.prompt_mask, rollouts.completion_mask], 1)
    return tokens, mask


def positions(mask: Tensor) -> dict[str, Any]:
    """Return the model arguments that place tokens: nothing where no row is left-padded.

    Right padding needs no mask: under causal attention it changes nothing to its left, and
    leaving the mask out takes the faster attention kernel.
    """
    if bool(mask[:, 0].all()):
        return {}
    return {"attention_mask": mask.long(), "position_ids": (mask.cumsum(1) - 1).clamp_(min=0)}


def completion_logprobs(
    model: PreTrainedModel,
    tokens: Tensor,
    mask: Tensor,
    completion_length: int,
    temperature: float,
) -> Tensor:
    """Return log-probs [R, T] of the last T = ``completion_length`` tokens, 0 where masked.

    Args:
        model: a causal language model.
        tokens: prompt and completion, [R, P + T], as ``join`` gives them.
        mask: 1 where a token is real, [R, P + T].
        completion_length: T.
        temperature: logits are divided by it, as the engine does before sampling.
    """
    logits = model(
        input_ids=tokens, use_cache=False, logits_to_keep=completion_length + 1, **positions(mask)
    ).logits
    targets = tokens[:, -completion_length:, None]
    logprobs = torch.log_softmax(logits[:, :-1].float() / temperature, -1)
    return logprobs.gather(-1, targets)[..., 0] * mask[:, -completion_length:]


def completion_values(model: Any, tokens: Tensor, mask: Tensor, completion_length: int) -> Tensor:
    """Return values [R, T]: the score head at the position before each completion token.

    ``model`` is a sequence classifier with one label, as TRL's RewardTrainer saves it.
    """
    backbone = getattr(model, model.base_model_prefix)
    hidden = backbone(input_ids=tokens, use_cache=False, **positions(mask)).last_hidden_state
    score = model.score(hidden[:, -completion_length - 1 : -1])
    values: Tensor = score[..., 0].float() * mask[:, -completion_length:]
    return values
