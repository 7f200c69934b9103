"""What the frozen models say of rollouts: the proxy reward and the SFT model's log-probs."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from bench.learning.logprobs import completion_logprobs, completion_scores
from bench.learning.sequences import Sequences
from bench.types import Rollouts, ScoredRollouts


class Scorer:
    """Scores rollouts with a frozen reward model and, where asked, a frozen reference policy."""

    def __init__(
        self,
        reward_model: PreTrainedModel,
        reference: PreTrainedModel,
        *,
        temperature: float,
        missing_eos_penalty: float | None,
        microbatch_rows: int | None = None,
    ) -> None:
        """Freeze both models.

        Args:
            reward_model: a sequence classifier with one label.
            reference: the SFT model.
            temperature: of sampling; reference log-probs are taken at the same.
            missing_eos_penalty: *replaces* the reward of a completion without EOS, as in the
                authors' code; None leaves the reward model's score.
            microbatch_rows: rows per forward pass; None means all.
        """
        self.reward_model = reward_model.eval().requires_grad_(False)
        self.reference = reference.eval().requires_grad_(False)
        self._temperature = temperature
        self._penalty = missing_eos_penalty
        self._rows = microbatch_rows

    @torch.no_grad()
    def score(
        self, rollouts: Rollouts, sequences: Sequences, *, ref_logprobs: bool
    ) -> ScoredRollouts:
        """Return the rollouts with rewards [R] and, if asked, reference log-probs [R, T].

        Args:
            rollouts: a batch of R rows.
            sequences: of the same batch.
            ref_logprobs: whether the algorithm needs them.
        """
        rewards, references = [], []
        for part in sequences.split(self._rows):
            rewards.append(completion_scores(self.reward_model, part))
            if ref_logprobs:
                references.append(completion_logprobs(self.reference, part, self._temperature))
        reward = torch.cat(rewards)
        if self._penalty is not None:
            reward = reward.where(rollouts.finished, self._penalty)
        return ScoredRollouts(rollouts, reward, torch.cat(references) if references else None)
