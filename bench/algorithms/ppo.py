"""PPO with a value model and token-level generalised advantage estimation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.algorithms.base import (
    Inputs,
    Level,
    LossOutput,
    Minibatch,
    Outputs,
    SearchGrid,
    non_negative,
    positive,
    whole,
)
from bench.algorithms.functional import clipped_surrogate, last_token, token_mean, whitened
from bench.algorithms.ratio import RatioAlgorithm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Ppo(RatioAlgorithm):
    """Proximal policy optimisation on tokens.

    Reward of token t: ``-kl_coef * (log pi_old - log pi_ref)``, plus the score at the last token.
    With V_t the value of the state before token t and V = 0 after the last token::

        delta_t = reward_t + gamma V_{t+1} - V_t
        A_t = delta_t + gamma lam A_{t+1},  G_t = A_t + V_t,  A whitened over the batch's tokens
        r_t = pi_new / pi_old
        L = mean_t max(-A_t r_t, -A_t clip(r_t, 1 +- clip_range))
          + value_coef / 2 mean_t max((V_t - G_t)^2, (clip(V_t, V_old +- value_clip_range) - G_t)^2)

    Means are over all completion tokens of the batch. The paper draws one completion of each of
    512 prompts; with two of each of half as many prompts PPO sees what RLOO and Online DPO see. A
    correction weighs the policy's terms, not the values'.

    Metrics: policy_loss, value_loss (without its coefficient), ratio_mean, clip_fraction and
    value_clip_fraction (of tokens), advantage_std (before whitening), value_explained_variance,
    kl_ref_mean (old - ref, nats per completion, estimated on the batch's completions).

    Source: arXiv:1707.06347; arXiv:1506.02438; arXiv:2410.18252, section 3.2.

    Deviations from the authors' code. They whiten over a whole generation round (N mini-batches),
    with Bessel's correction; here over one batch, without. Their values and advantages are those of
    the round's start; here they are of the step's start, as in their asynchronous trainers. They
    put the score one position after EOS and regress the value there too; here EOS carries it.
    """

    name: ClassVar[str] = "ppo"
    grid: ClassVar[SearchGrid] = SearchGrid("kl_coef", (0.02, 0.05, 0.1, 0.2))
    level: ClassVar[Level] = "token"
    needs_values: ClassVar[bool] = True

    completions_per_prompt: int = whole(1, least=1)
    gamma: float = non_negative(1.0)
    lam: float = non_negative(0.95)
    clip_range: float = positive(0.2)
    value_coef: float = non_negative(0.1)
    value_clip_range: float = positive(0.2)

    def prepare(self, inputs: Inputs) -> Minibatch:
        """Return all rows with whitened advantages and returns [R, T]."""
        assert inputs.values is not None
        mask = inputs.mask
        kl_ref = (inputs.old_logprobs - inputs.ref_logprobs).masked_fill(~mask, 0)
        rewards = last_token(mask) * inputs.scored.rewards[:, None] - self.kl_coef * kl_ref
        values = inputs.values.masked_fill(~mask, 0)
        raw = self.generalised_advantages(rewards, values)
        advantages, std = whitened(raw, mask)
        return self.minibatch(
            inputs,
            advantages=advantages,
            advantage_std=std,
            returns=raw + values,
            values=values,
            kl_ref=kl_ref.sum(1),
        )

    def generalised_advantages(self, rewards: Tensor, values: Tensor) -> Tensor:
        """Return A [R, T]. Rewards and values [R, T] are 0 at padding, which ends the episode."""
        advantages = rewards.new_empty(rewards.shape)
        next_value = next_advantage = rewards.new_zeros(len(rewards))
        for t in range(rewards.shape[1] - 1, -1, -1):
            delta = rewards[:, t] + self.gamma * next_value - values[:, t]
            next_advantage = delta + self.gamma * self.lam * next_advantage
            next_value = values[:, t]
            advantages[:, t] = next_advantage
        return advantages

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return policy loss + value loss, of R rows."""
        assert outputs.values is not None
        mask, targets = batch.mask, batch.targets
        weighed = self.ratio(outputs, batch)
        per_token, is_clipped = clipped_surrogate(
            weighed.log_ratio, targets["advantages"], self.clip_range, self.clip_range
        )
        policy_loss = token_mean(weighed.weigh(per_token), mask)

        returns, old_values = targets["returns"], targets["values"]
        values = outputs.values.masked_fill(~mask, 0)
        change = (values - old_values).clamp(-self.value_clip_range, self.value_clip_range)
        error = (values - returns).square()
        clipped_error = (old_values + change - returns).square()
        value_loss = 0.5 * token_mean(error.maximum(clipped_error), mask)

        unexplained = (returns - old_values)[mask].var(correction=0)
        explained = 1 - unexplained / returns[mask].var(correction=0).clamp_min(1e-8)
        return self.output(
            policy_loss + self.value_coef * value_loss,
            batch,
            weighed,
            ratio=weighed.log_ratio.exp(),
            is_clipped=is_clipped,
            kl_ref=targets["kl_ref"],
            policy_loss=policy_loss,
            value_loss=value_loss,
            value_clip_fraction=token_mean((clipped_error > error).double(), mask),
            advantage_std=targets["advantage_std"],
            value_explained_variance=explained,
        )
