"""Best-of-K: supervised fine-tuning on the best of K completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.algorithms.base import Algorithm, Inputs, LossOutput, Minibatch, Outputs
from bench.algorithms.functional import as_metrics, best_and_worst, sequence_sum


@dataclass(frozen=True, kw_only=True)
class BestOfK(Algorithm):
    """Maximum likelihood of the completion with the highest reward.

    ``L = mean over prompts of -sum_t log pi_new(y_best)``: summed over the completion's tokens up
    to EOS, not normalised by length; no reference model, no KL penalty. Of equal rewards the first
    completion is taken. There are no old log-probs in the loss; ``old_logprobs`` says
    ``behaviour``, which costs nothing.

    Metrics: logprob_mean (new, nats per completion), reward_gain_mean (the best reward minus the
    mean of the prompt's K).

    Source: arXiv:2410.18252, section 3.3. No deviation from the authors' code.
    """

    name: ClassVar[str] = "best_of_2"
    needs_ref_logprobs: ClassVar[bool] = False

    def prepare(self, inputs: Inputs) -> Minibatch:
        """Return the B best rows with their gain in reward [B]."""
        rewards = inputs.scored.rewards
        best, _ = best_and_worst(rewards, self.completions_per_prompt).chunk(2)
        means = rewards.view(-1, self.completions_per_prompt).mean(1)
        return Minibatch(
            rows=best,
            mask=inputs.mask[best],
            old_logprobs=inputs.old_logprobs[best],
            targets={"reward_gain": rewards[best] - means},
        )

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over prompts, of B rows."""
        logprob = sequence_sum(outputs.logprobs, batch.mask).mean()
        metrics = as_metrics(
            logprob_mean=logprob, reward_gain_mean=batch.targets["reward_gain"].mean()
        )
        return LossOutput(-logprob, metrics)
