"""What a task is: prompts, references, a gold judge, and what SFT and reward models learn from.

A task has two parts. Its configuration, a frozen dataclass, is part of a run's identity and loads
nothing; ``build`` makes the task itself. Imports no torch at run time.
"""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from bench.errors import UserError
from bench.types import Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

Split = Literal["train", "tuning", "eval"]
Completion = tuple[int, ...]
Sampler = Callable[[Sequence[Prompt], int], list[list[Completion]]]  # k completions of each prompt


class Task(ABC):
    """A task with its data. Splits never share a prompt.

    A task whose SFT and reward models are released need not have ``sft_pairs`` and ``comparisons``.
    """

    tokenizer: PreTrainedTokenizerBase

    @abstractmethod
    def prompts(self, split: Split) -> Sequence[Prompt]:
        """Return the split's prompts, always in the same order."""

    @abstractmethod
    def references(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Return the human-like reference completion of each prompt, EOS included."""

    @abstractmethod
    def gold_rewards(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]
    ) -> NDArray[np.float64]:
        """Return the gold judge's reward of each completion; one without EOS is unfinished."""

    def outcomes(
        self, gold: NDArray[np.float64], reference_gold: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return each prompt's outcome against its reference: 1 won, 0.5 equal, 0 lost.

        Their mean is the win rate.

        Args:
            gold: the gold rewards of completions.
            reference_gold: those of the references.
        """
        return np.where(gold == reference_gold, 0.5, (gold > reference_gold).astype(np.float64))

    def best_rewards(self, prompts: Sequence[Prompt]) -> NDArray[np.float64] | None:
        """Return the gold reward of the best possible completion of each prompt; None: unknown."""
        del prompts
        return None

    def sft_pairs(self) -> Iterator[tuple[Prompt, Completion]]:
        """Yield prompts and references for SFT; none of them is in a split.

        Raises:
            UserError: the task has none.
        """
        raise UserError(f"task {type(self).__name__}: has no pairs to train an SFT model on")

    def comparisons(
        self, count: int, sample: Sampler, seed: int
    ) -> list[tuple[Prompt, Completion, Completion]]:
        """Return at most ``count`` (prompt, chosen, rejected); none of the prompts is in a split.

        Args:
            count: how many.
            sample: the SFT model, for tasks whose comparisons are not recorded.
            seed: which prompts are drawn, and all noise. Equal seeds give equal comparisons.

        Raises:
            UserError: the task has none.
        """
        del count, sample, seed
        raise UserError(f"task {type(self).__name__}: has no comparisons for a reward model")


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Parameters of a task. All of them are part of a run's identity.

    Attributes:
        name: what the task is called in configurations, tables and files.
        implementation: where its ``Task`` is, "module:Class", made from the configuration alone.
        rule_reward: whether the gold judge's reward is what policies are trained on. There is no
            reward model then: the judge is a rule, as where answers can be checked.
    """

    name: ClassVar[str]
    implementation: ClassVar[str]
    rule_reward: ClassVar[bool] = False

    def lacks(self) -> str:
        """Return what is not installed that the task needs, and how to get it; "": nothing."""
        return ""

    @property
    def reference_tokens(self) -> int | None:
        """The most tokens that a reference has, EOS included; None: not known beforehand."""
        return None

    def build(self) -> Task:
        """Return the task; its libraries are imported now.

        Raises:
            UserError: data or models are missing.
        """
        task: Task = pkgutil.resolve_name(self.implementation)(self)
        return task

    def win_rate_ceiling(self, split: Split, prompts: int) -> float | None:
        """Return the gold win rate of a policy that gives each prompt its best completion.

        Below 1 where references are perfect too, since nothing beats them. No limit on the
        completion's length is taken into account. None: the best completions are unknown.

        Args:
            split: of the evaluation.
            prompts: how many of its first ones the evaluation uses.

        Raises:
            UserError: data or models are missing.
        """
        task = self.build()
        chosen = task.prompts(split)[:prompts]
        best = task.best_rewards(chosen)
        if best is None:
            return None
        reference_gold = task.gold_rewards(chosen, task.references(chosen))
        return float(task.outcomes(best, reference_gold).mean())

    def released(self, model: str) -> tuple[str, str | None] | None:
        """Return where the SFT and the reward model of a policy size are, or None to train them.

        Args:
            model: the policy's size.

        Returns:
            Hub ids or local directories. Where rewards are by rule, the second is None.

        Raises:
            UserError: there is no such size, or the hub directory in use lacks a model.
        """
        del model
        return None

    def judge(self) -> str | None:
        """Return where the judge is, a hub id or a local directory, or None if it is a program.

        Raises:
            UserError: the hub directory in use lacks it.
        """
        return None

    def longest_prompt_tokens(self) -> int:
        """Return an upper bound of the length of a prompt.

        Raises:
            UserError: data or models are missing.
        """
        return max(len(prompt.token_ids) for prompt in self.build().prompts("train"))
