"""What every engine does with prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.types import Prompt


def pad_left(prompts: Sequence[Prompt], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Return the prompts' tokens [B, P] and their mask [B, P], on the CPU."""
    length = max(len(prompt.token_ids) for prompt in prompts)
    rows = [[pad_token_id] * (length - len(p.token_ids)) + list(p.token_ids) for p in prompts]
    lengths = torch.tensor([len(p.token_ids) for p in prompts])
    return torch.tensor(rows), torch.arange(length) >= length - lengths[:, None]
