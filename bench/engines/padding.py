"""Rows of different lengths as one tensor: prompts padded on the left, all else on the right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from bench.types import Prompt


def pad_prompts(prompts: Sequence[Prompt], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Return the prompts' tokens [B, P], padded on the left, and their mask [B, P], on the CPU."""
    length = max(len(prompt.token_ids) for prompt in prompts)
    rows = [[pad_token_id] * (length - len(p.token_ids)) + list(p.token_ids) for p in prompts]
    lengths = torch.tensor([len(p.token_ids) for p in prompts])
    return torch.tensor(rows), torch.arange(length) >= length - lengths[:, None]


def pad_completions(rows: Sequence[Tensor], value: int) -> Tensor:
    """Return one number per completion token [R, T], padded on the right with ``value``."""
    return pad_sequence(list(rows), batch_first=True, padding_value=value)


def join(parts: Sequence[Tensor], value: float) -> Tensor:
    """Return the rows of all parts [r, T] as one tensor, padded on the right with ``value``."""
    if len(parts) == 1:
        return parts[0]
    length = max(part.shape[1] for part in parts)
    return torch.cat([pad(part, (0, length - part.shape[1]), value=value) for part in parts])
