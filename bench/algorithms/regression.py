"""Losses that regress log-ratios on rewards: CoPG, REBEL, Kimi, OAPL; no ratio is in any of them.

One loss with two switches. With x_i the completion's log-ratio to an ``anchor``, and b a
``baseline``, both of the prompt's K completions::

    x_i = sum_t (log pi_new - log pi_anchor),  D_i = R_i - beta x_i,  R_i = score_i
    L = mean over prompts of 1 / (2 beta) * mean_i (D_i - b)^2

=============  ==============  =====================  =============================================
name           anchor          baseline               published loss
=============  ==============  =====================  =============================================
``copg``       reference       mean D, K - 1          L (arXiv:2406.19185); TBA's (arXiv:2503.18929)
``rebel``      behaviour       mean D, K - 1          4 beta L, beta = 1 / eta (arXiv:2404.16767)
``kimi``       behaviour       mean R                 L plus a constant (arXiv:2501.12599, eq. 3)
``oapl``       behaviour       V, a soft maximum      2 beta L (arXiv:2602.19362)
=============  ==============  =====================  =============================================

V = beta log mean_i exp(R_i / beta). K - 1: the sum of squares is divided by that, not by K.

- TBA is CoPG: its loss is (2 / beta) (K - 1) / K times CoPG's, the same run under AdamW. What TBA
  adds is its replay buffer.
- The gradient is ``-(1 / K) sum_i (D_i - b) grad log pi_new_i``, with K - 1 for CoPG and REBEL, so
  learning rates compare with RLOO's. Published factors only scale it.
- An anchor of the behaviour policy's says how far the policy may go in one round. There is no KL
  penalty against the SFT model, then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.algorithms.base import (
    Algorithm,
    Inputs,
    LossOutput,
    Minibatch,
    Outputs,
    SearchGrid,
    one_of,
    positive,
)
from bench.algorithms.functional import all_rows, as_metrics, leave_one_out, sequence_sum

if TYPE_CHECKING:
    from torch import Tensor

Anchor = Literal["reference", "behaviour"]
Baseline = Literal["centred", "mean", "soft"]


@dataclass(frozen=True, kw_only=True)
class Copg(Algorithm):
    """Contrastive policy gradient on whole completions, and the family of this file.

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
    anchor: Anchor = one_of("reference", "behaviour")
    baseline: Baseline = one_of("centred", "mean", "soft")

    def prepare(self, inputs: Inputs) -> Minibatch:
        """Return all rows with their scores and the summed log-probs of the others [R]."""
        ref_logprobs = sequence_sum(inputs.ref_logprobs, inputs.mask)
        behaviour = sequence_sum(inputs.behaviour_logprobs, inputs.mask)
        return all_rows(
            inputs,
            scores=inputs.scored.rewards,
            ref_logprobs=ref_logprobs,
            anchor_logprobs=ref_logprobs if self.anchor == "reference" else behaviour,
        )

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over prompts, of R rows."""
        logprobs, scores = sequence_sum(outputs.logprobs, batch.mask), batch.targets["scores"]
        kl_anchor = logprobs - batch.targets["anchor_logprobs"]
        rewards = scores - self.beta * kl_anchor
        groups = rewards.view(-1, self.completions_per_prompt)
        if self.baseline == "centred":
            squares = groups.var(1, correction=1)
        else:
            squares = (groups - self._baseline(scores)).square().mean(1)
        metrics = as_metrics(
            advantage_std=leave_one_out(rewards, self.completions_per_prompt).std(correction=0),
            kl_ref_mean=(logprobs - batch.targets["ref_logprobs"]).mean(),
        )
        return LossOutput(squares.mean() / (2 * self.beta), metrics)

    def _baseline(self, scores: Tensor) -> Tensor:
        """Return what is subtracted of each prompt: [R] -> [B, 1]."""
        groups = scores.view(-1, self.completions_per_prompt)
        if self.baseline == "mean":
            return groups.mean(1, keepdim=True)
        scaled = (groups / self.beta).logsumexp(1, keepdim=True)
        return self.beta * (scaled - math.log(self.completions_per_prompt))


@dataclass(frozen=True, kw_only=True)
class Rebel(Copg):
    """Regression of differences of rewards on differences of log-ratios to the behaviour policy.

    ``beta`` is 1 / eta. Source: arXiv:2404.16767. Deviation: the factor of
    the loss; all pairs of a prompt, not one.
    """

    name: ClassVar[str] = "rebel"
    grid: ClassVar[SearchGrid] = SearchGrid("beta", (0.3, 1.0, 3.0))

    beta: float = positive(1.0)
    anchor: Anchor = one_of("behaviour", "reference")


@dataclass(frozen=True, kw_only=True)
class Kimi(Copg):
    """Policy gradient of centred rewards with a square of the log-ratio, as mirror descent has it.

    ``beta`` is tau, which the source does not state. Kimi K2's loss is 2 beta times this one.
    Source: arXiv:2501.12599, equation 3. Deviation: none but a constant.
    """

    name: ClassVar[str] = "kimi"
    grid: ClassVar[SearchGrid] = SearchGrid("beta", (0.03, 0.1, 0.3))

    beta: float = positive(0.1)
    anchor: Anchor = one_of("behaviour", "reference")
    baseline: Baseline = one_of("mean", "centred", "soft")


@dataclass(frozen=True, kw_only=True)
class Oapl(Copg):
    """Regression of log-ratios on advantages over the optimal regularised value.

    All completions of a prompt must be of one policy version, or V is biased. With ``anchor =
    "reference"`` this is A*-PO (arXiv:2505.20686), but for its V of samples of the reference.
    The schedule says how often the behaviour policy is renewed. Source: arXiv:2602.19362.
    Deviation: the factor of the loss.
    """

    name: ClassVar[str] = "oapl"
    grid: ClassVar[SearchGrid] = SearchGrid("beta", (0.1, 0.3, 1.0))

    beta: float = positive(0.3)
    anchor: Anchor = one_of("behaviour", "reference")
    baseline: Baseline = one_of("soft", "centred", "mean")
