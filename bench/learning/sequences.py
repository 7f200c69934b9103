"""A batch as a model reads it: prompt and completion of each row, and which rows share a prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.types import Rollouts


@dataclass(frozen=True, slots=True)
class Sequences:
    """Rows of prompt + completion, with each distinct prompt once.

    ``prompts`` are in lexicographic order, -1 where masked. A selection of rows keeps this order:
    the order of the rows in a forward pass decides the last bits of a gradient.
    """

    tokens: Tensor  # [R, P + T] int64
    mask: Tensor  # [R, P + T] bool: the token is real
    prompts: Tensor  # [U, P] int64, the distinct prompts of these rows
    prompt_of_row: Tensor  # [R] int64, below U

    @classmethod
    def of(cls, rollouts: Rollouts) -> Sequences:
        """Join prompts and completions of a batch and find the prompts that are equal."""
        prompts = rollouts.prompt_tokens.where(rollouts.prompt_mask, -1)
        prompts, prompt_of_row = prompts.unique(dim=0, return_inverse=True)
        return cls(
            torch.cat([rollouts.prompt_tokens, rollouts.completion_tokens], 1),
            torch.cat([rollouts.prompt_mask, rollouts.completion_mask], 1),
            prompts,
            prompt_of_row,
        )

    @property
    def prompt_length(self) -> int:
        """P."""
        return self.prompts.shape[1]

    @property
    def numbers(self) -> Tensor:
        """The rows' numbers, [R]."""
        return torch.arange(len(self.tokens), device=self.tokens.device)

    def select(self, rows: Tensor) -> Sequences:
        """Return the rows numbered ``rows`` [M], in that order; P and T stay as they are."""
        prompts, prompt_of_row = self.prompt_of_row[rows].unique(return_inverse=True)
        return Sequences(self.tokens[rows], self.mask[rows], self.prompts[prompts], prompt_of_row)

    def split(self, rows: int | None) -> list[Sequences]:
        """Return consecutive parts of at most ``rows`` rows; None: one part."""
        return [self.select(part) for part in self.numbers.split(rows or len(self.tokens))]
