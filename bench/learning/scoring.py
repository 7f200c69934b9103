"""What is said of rollouts before an update: their rewards and the SFT model's log-probs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from bench.learning.logprobs import completion_logprobs, completion_scores
from bench.learning.parallel import ALONE, Ranks, Share
from bench.learning.sequences import Sequences
from bench.types import Prompt, Rollouts, ScoredRollouts

# The reward of each completion of a prompt, as of ``bench.tasks.base.Task.gold_rewards``.
Rule: TypeAlias = Callable[[Sequence[Prompt], Sequence[Sequence[int]]], NDArray[np.float64]]


class Scorer:
    """Scores rollouts with a reward and, where asked, a frozen reference policy."""

    def __init__(
        self,
        reward: PreTrainedModel | Rule,
        reference: PreTrainedModel,
        *,
        temperature: float,
        missing_eos_penalty: float | None,
        microbatch_rows: int | None = None,
    ) -> None:
        """Freeze the models.

        Args:
            reward: a reward model, which is a sequence classifier with one label, or a rule.
            reference: the SFT model.
            temperature: of sampling; reference log-probs are taken at the same.
            missing_eos_penalty: *replaces* the reward of a completion without EOS, as in the
                authors' code; None leaves the reward as it is.
            microbatch_rows: rows per forward pass; None means all.
        """
        if isinstance(reward, PreTrainedModel):
            reward.eval().requires_grad_(False)
        self._reward = reward
        self.reference = reference.eval().requires_grad_(False)
        self._temperature = temperature
        self._penalty = missing_eos_penalty
        self._rows = microbatch_rows

    @torch.no_grad()
    def score(
        self,
        rollouts: Rollouts,
        sequences: Sequences,
        *,
        ref_logprobs: bool,
        ranks: Ranks = ALONE,
    ) -> ScoredRollouts:
        """Return the rollouts with rewards [R] and, if asked, reference log-probs [R, T].

        Args:
            rollouts: a batch of R rows.
            sequences: of the same batch.
            ref_logprobs: whether the algorithm needs them.
            ranks: those that score this batch together.
        """
        share = ranks.share(sequences, sequences.numbers, self._rows)
        reward = self._rewards(rollouts, share)
        if self._penalty is not None:
            reward = reward.where(rollouts.finished, self._penalty)
        if not ref_logprobs:
            return ScoredRollouts(rollouts, reward, None)
        logprobs = partial(completion_logprobs, self.reference, temperature=self._temperature)
        return ScoredRollouts(rollouts, reward, share.outputs(logprobs))

    def _rewards(self, rollouts: Rollouts, share: Share) -> Tensor:
        if isinstance(self._reward, PreTrainedModel):
            return share.outputs(partial(completion_scores, self._reward))
        prompts = [p for p in rollouts.prompts for _ in range(rollouts.completions_per_prompt)]
        rewards = self._reward(prompts, rollouts.completions())
        return torch.from_numpy(rewards).float().to(rollouts.completion_tokens.device)
