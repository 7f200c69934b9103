"""How far an engine's log-probs are from those of the weights that it was to load."""

from __future__ import annotations

import copy

import torch
from transformers import PreTrainedModel

from bench.learning.logprobs import completion_logprobs
from bench.learning.sequences import Sequences
from bench.types import Rollouts, WeightSnapshot

ROWS = 16  # of a batch, at most


class LogprobGap:
    """Compares a batch's log-probs with a snapshot's.

    It cannot tell versions apart whose policies are closer than the rounding of the engine: an
    engine that ignores its weights is noticed once the policy has moved further than that.

    Example:
        >>> LogprobGap(learner.policy, temperature=0.7)(rollouts, learner.snapshot())
        0.0004
    """

    def __init__(self, policy: PreTrainedModel, temperature: float) -> None:
        """Compare with a copy of ``policy``, made when it is first needed.

        Args:
            policy: of the snapshots' architecture.
            temperature: of sampling.
        """
        self._policy = policy
        self._temperature = temperature
        self._model: PreTrainedModel | None = None

    @torch.no_grad()
    def __call__(self, rollouts: Rollouts, snapshot: WeightSnapshot) -> float:
        """Return the mean absolute gap in nats per token, over tokens that the version sampled."""
        if self._model is None:
            self._model = copy.deepcopy(self._policy)
        self._model.load_state_dict(dict(snapshot.state))
        sampled = rollouts.sampled_by(snapshot.policy_version)
        rows = sampled.any(1).nonzero()[:ROWS, 0]
        logprobs = completion_logprobs(
            self._model, Sequences.of(rollouts).select(rows), self._temperature
        )
        return float((logprobs - rollouts.logprobs[rows]).abs()[sampled[rows]].mean())
