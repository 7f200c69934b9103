"""Online DPO: a contrastive loss on the best and the worst of K completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

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
from bench.algorithms.functional import as_metrics, best_and_worst, random_pair, sequence_sum


@dataclass(frozen=True, kw_only=True)
class OnlineDpo(Algorithm):
    """Direct preference optimisation, or IPO, on pairs that the reward model labels.

    y+ and y- are the prompt's completions with the highest and the lowest reward. As a control for
    K > 2, ``pair = "random"`` chooses two before it looks at rewards, which then only say which is
    y+. With all log-probs summed over the completion up to EOS::

        h = (log pi_new(y+) - log pi_ref(y+)) - (log pi_new(y-) - log pi_ref(y-))
        sigmoid:  L = mean over prompts of -log sigmoid(beta h)
        ipo:      L = mean over prompts of (h - 1 / (2 beta))^2

    Pairs of equal reward are trained on too, the first completion as y+. There are no old log-probs
    in the loss; ``old_logprobs`` says ``behaviour``, which costs nothing.

    Metrics: margin_mean (beta h), accuracy (h > 0), reward_margin_mean (reward of y+ minus y-),
    tie_fraction (pairs of equal reward), kl_ref_mean (new - ref, nats per completion, over the
    trained completions; for K > 2 these are a selection).

    Source: arXiv:2402.04792; arXiv:2305.18290, equation 7; arXiv:2310.12036, equation 17. No
    deviation from the authors' code. As there, and unlike TRL's offline DPO trainer, IPO is not
    normalised by length. The paper states no beta for summaries; 0.1 is what its code runs.
    """

    name: ClassVar[str] = "online_dpo"
    grid: ClassVar[SearchGrid] = SearchGrid("beta", (0.03, 0.1, 0.3))

    beta: float = positive(0.1)
    loss_type: Literal["sigmoid", "ipo"] = one_of("sigmoid", "ipo")
    pair: Literal["best_and_worst", "random"] = one_of("best_and_worst", "random")

    def prepare(self, inputs: Inputs) -> Minibatch:
        """Return 2B rows, chosen first, with summed reference log-probs and rewards [2B]."""
        rewards = inputs.scored.rewards
        choose = best_and_worst if self.pair == "best_and_worst" else random_pair
        rows = choose(rewards, self.completions_per_prompt)
        mask = inputs.mask[rows]
        return Minibatch(
            rows=rows,
            mask=mask,
            old_logprobs=inputs.old_logprobs[rows],
            targets={
                "rewards": rewards[rows],
                "ref_logprobs": sequence_sum(inputs.ref_logprobs[rows], mask),
            },
        )

    def loss(self, outputs: Outputs, batch: Minibatch) -> LossOutput:
        """Return the mean over prompts, of 2B rows."""
        from torch.nn.functional import logsigmoid

        kl_ref = sequence_sum(outputs.logprobs, batch.mask) - batch.targets["ref_logprobs"]
        chosen, rejected = kl_ref.chunk(2)
        h = chosen - rejected
        if self.loss_type == "sigmoid":
            per_pair = -logsigmoid(self.beta * h)
        else:
            per_pair = (h - 1 / (2 * self.beta)).square()
        chosen_reward, rejected_reward = batch.targets["rewards"].chunk(2)
        metrics = as_metrics(
            margin_mean=self.beta * h.mean(),
            accuracy=(h > 0).double().mean(),
            reward_margin_mean=(chosen_reward - rejected_reward).mean(),
            tie_fraction=(chosen_reward == rejected_reward).double().mean(),
            kl_ref_mean=kl_ref.mean(),
        )
        return LossOutput(per_pair.mean(), metrics)


@dataclass(frozen=True, kw_only=True)
class OnlineIpo(OnlineDpo):
    """Online DPO with the loss of IPO."""

    name: ClassVar[str] = "online_ipo"

    loss_type: Literal["sigmoid", "ipo"] = one_of("ipo", "sigmoid")
