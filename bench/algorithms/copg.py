"""Contrastive Policy Gradient: RLOO's gradient as a pairwise regression, without a ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.algorithms.base import (
    Algorithm,
    Inputs,
    LossOutput,
    Minibatch,
    Outputs,
    SearchGrid,
    positive,
)
from bench.algorithms.functional import all_rows, as_metrics, leave_one_out, sequence_sum


@dataclass(frozen=True, kw_only=True)
class Copg(Algorithm):
    """Contrastive policy gradient on whole completions.

    The KL-regularised reward is of the policy that is trained, so it has a gradient::

        R_i = score_i - beta * (sum_t log pi_new - sum_t log pi_ref)
        L = mean over prompts of 1 / (2 beta K (K - 1)) * sum_{i<j} (R_i - R_j)^2

    Since ``sum_{i<j} (R_i - R_j)^2 = K sum_i (R_i - mean R)^2``, this is the prompt's sample
    variance of R over ``2 beta``. Its gradient is ``-(1 / K) sum_i A_i grad log pi_new_i`` with
    A_i the leave-one-out advantage of R: on-policy that of vanilla RLOO with ``kl_coef = beta``.
    Off-policy its minimiser stays the optimum of the regularised problem, without importance
    weights. There are no old log-probs in the loss; ``old_logprobs`` says ``behaviour``, which
    costs nothing.

    Metrics: advantage_std (of R's leave-one-out advantages), kl_ref_mean (new - ref, nats per
    completion, estimated on the batch's completions).

    Source: arXiv:2406.19185. Deviation: the source draws pairs (K = 2) and does not divide by
    ``4 beta``; the factor makes learning rates comparable with RLOO's.
    """

    name: ClassVar[str] = "copg"
    grid: ClassVar[SearchGrid] = SearchGrid("beta", (0.02, 0.05, 0.1))

    beta: float = positive(0.05)

    def prepare(self, inputs: Inputs) -> Minibatch:
        """Return all rows with their scores and summed reference log-probs [R]."""
        ref_logprobs = sequence_sum(inputs.ref_logprobs, inputs.mask)
        return all_rows(inputs, scores=inputs.scored.rewards, ref_logprobs=ref_logprobs)

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over prompts, of R rows."""
        kl_ref = sequence_sum(outputs.logprobs, batch.mask) - batch.targets["ref_logprobs"]
        rewards = batch.targets["scores"] - self.beta * kl_ref
        variance = rewards.view(-1, self.completions_per_prompt).var(1, correction=1)
        metrics = as_metrics(
            advantage_std=leave_one_out(rewards, self.completions_per_prompt).std(correction=0),
            kl_ref_mean=kl_ref.mean(),
        )
        return LossOutput(variance.mean() / (2 * self.beta), metrics)
