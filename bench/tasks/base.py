"""What a task is: prompts, references, comparisons, a tokenizer and a gold judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from bench.types import Prompt

Split = Literal["train", "tuning", "eval"]


class Task(Protocol):
    """The protocol of every file in this folder. Splits never share a prompt."""

    tokenizer: PreTrainedTokenizerBase

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """Return the split's prompts, always in the same order."""
        ...

    def references(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        """Return the human-like reference completion of each prompt, EOS included."""
        ...

    def gold_rewards(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]
    ) -> NDArray[np.float64]:
        """Return the gold judge's reward of each completion; one without EOS is unfinished."""
        ...
