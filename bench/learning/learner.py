"""The learner: optimiser steps on a batch, for any algorithm, and snapshots of the policy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bench.algorithms.base import Algorithm, Inputs, Minibatch
from bench.config import RunConfig
from bench.learning.logprobs import completion_logprobs, completion_values, join
from bench.learning.scoring import Scorer
from bench.types import Rollouts, ScoredRollouts, StepRecord, WeightSnapshot

Forward = Callable[[Tensor, Tensor], Tensor]  # tokens, mask [M, P + T] -> per-token output [M, T]


class Learner:
    """Owns the trainable models and their optimiser; knows no algorithm by name.

    ``policy_version`` counts the batches trained on: version v has seen batches 0..v-1.
    """

    def __init__(
        self,
        config: RunConfig,
        algorithm: Algorithm,
        policy: PreTrainedModel,
        scorer: Scorer,
        value_model: PreTrainedModel | None = None,
    ) -> None:
        """Take over ``policy`` and, where the algorithm trains values, ``value_model``."""
        self.config = config
        self.algorithm = algorithm
        self.policy = policy.eval()  # dropout off, as in the paper
        self.value_model = value_model.eval() if value_model is not None else None
        self.scorer = scorer
        self.policy_version = 0
        self._parameters = [
            p for m in (self.policy, self.value_model) if m is not None for p in m.parameters()
        ]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=config.learning_rate, weight_decay=0.0, foreach=True
        )

    def snapshot(self) -> WeightSnapshot:
        """Return an immutable copy of the policy's current weights."""
        state = {name: value.detach().clone() for name, value in self.policy.state_dict().items()}
        return WeightSnapshot(self.policy_version, state)

    def state(self) -> dict[str, Tensor]:
        """Return all that ``restore`` needs, by name; views, to be saved before the next step."""
        state = {f"parameters.{i}": p.detach() for i, p in enumerate(self._parameters)}
        for i, moments in self._optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
        return state

    def restore(self, policy_version: int, state: Mapping[str, Tensor]) -> None:
        """Go on from what ``state`` returned at this version."""
        optimizer = self._optimizer.state_dict()
        optimizer["state"] = {}
        for key, value in state.items():
            kind, index, *name = key.split(".")
            if kind == "parameters":
                self._parameters[int(index)].data.copy_(value)
            else:
                optimizer["state"].setdefault(int(index), {})[name[0]] = value
        self._optimizer.load_state_dict(optimizer)
        self.policy_version = policy_version

    def step(self, rollouts: Rollouts) -> StepRecord:
        """Train on one batch for the algorithm's epochs and return what happened.

        A non-finite loss or gradient is not applied: the record carries it, the caller ends the
        run as diverged.
        """
        step = self.policy_version
        start = time.perf_counter()
        scored = self.scorer.score(rollouts, ref_logprobs=self.algorithm.needs_ref_logprobs)
        scored_at = time.perf_counter()

        batch = self.algorithm.prepare(self._inputs(scored))
        learning_rate = self.config.learning_rate_at(step)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        for epoch in range(self.algorithm.epochs):
            new_logprobs, loss, metrics = self._backward(rollouts, batch)
            if epoch == 0:
                gap = (new_logprobs - rollouts.logprobs[batch.rows]).abs().sum() / batch.mask.sum()
            grad_norm = float(
                torch.nn.utils.clip_grad_norm_(
                    self._parameters, self.config.max_grad_norm or math.inf
                )
            )
            if not (math.isfinite(loss) and math.isfinite(grad_norm)):
                break
            self._optimizer.step()
        self.policy_version += 1

        return StepRecord(
            step=step,
            policy_version=step,
            rollout_version=rollouts.policy_version,
            staleness=step - rollouts.policy_version,
            learning_rate=learning_rate,
            loss=loss,
            grad_norm=grad_norm,
            reward_mean=float(scored.rewards.mean()),
            finished_fraction=float(rollouts.finished.float().mean()),
            completion_tokens=int(rollouts.completion_mask.sum()),
            logprob_gap_mean=float(gap),
            wait_s=0.0,
            generate_s=rollouts.generate_s,
            score_s=scored_at - start,
            learn_s=time.perf_counter() - scored_at,
            publish_s=0.0,
            metrics=metrics,
        )

    @torch.no_grad()
    def _inputs(self, scored: ScoredRollouts) -> Inputs:
        """Return what is known of the batch before the step."""
        rollouts = scored.rollouts
        tokens, mask = join(rollouts)
        old, values = rollouts.logprobs, None
        parts = self._parts(torch.arange(len(tokens), device=tokens.device))
        if self.algorithm.old_logprobs == "proximal":
            old = _in_parts(self._policy_forward(rollouts), tokens, mask, parts)
        if self.value_model is not None:
            values = _in_parts(self._value_forward(rollouts), tokens, mask, parts)
        return Inputs(scored, old, values)

    def _backward(
        self, rollouts: Rollouts, batch: Minibatch
    ) -> tuple[Tensor, float, dict[str, float]]:
        """Accumulate the gradient of the algorithm's loss; return log-probs, loss and metrics.

        Exact for any micro-batch size.

        With micro-batches the loss is first differentiated with respect to the per-token outputs
        of the whole minibatch, then each part is recomputed and given its share: a pairwise or
        batch-normalised loss sees every row at once.
        """
        tokens, mask = (part[batch.rows] for part in join(rollouts))
        forwards = [self._policy_forward(rollouts)]
        if self.value_model is not None:
            forwards.append(self._value_forward(rollouts))
        self._optimizer.zero_grad(set_to_none=True)

        parts = self._parts(batch.rows)
        if len(parts) == 1:
            outputs = [forward(tokens, mask) for forward in forwards]
        else:
            with torch.no_grad():
                outputs = [_in_parts(forward, tokens, mask, parts) for forward in forwards]
            outputs = [output.requires_grad_() for output in outputs]
        result = self.algorithm.loss(outputs[0], outputs[1] if len(outputs) > 1 else None, batch)
        if torch.isfinite(result.loss):
            result.loss.backward()
            if len(parts) > 1:
                for forward, output in zip(forwards, outputs, strict=True):
                    assert output.grad is not None
                    for part in parts:
                        forward(tokens[part], mask[part]).backward(output.grad[part])
        return outputs[0].detach(), float(result.loss.detach()), dict(result.metrics)

    def _policy_forward(self, rollouts: Rollouts) -> Forward:
        length, temperature = rollouts.completion_tokens.shape[1], self.config.temperature

        def forward(tokens: Tensor, mask: Tensor) -> Tensor:
            with self._autocast():
                return completion_logprobs(self.policy, tokens, mask, length, temperature)

        return forward

    def _value_forward(self, rollouts: Rollouts) -> Forward:
        length, model = rollouts.completion_tokens.shape[1], self.value_model
        assert model is not None

        def forward(tokens: Tensor, mask: Tensor) -> Tensor:
            with self._autocast():
                return completion_values(model, tokens, mask, length)

        return forward

    def _autocast(self) -> torch.autocast:
        """Compute in the config's dtype; trained weights and the optimiser stay in float32."""
        return torch.autocast(
            self.policy.device.type, torch.bfloat16, enabled=self.config.dtype == "bfloat16"
        )

    def _parts(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return micro-batches: where in ``rows`` [M], the batch's row numbers, each part's are.

        In the order of the batch, prompt by prompt, however the algorithm arranges them: the
        completions of a prompt are then together and share its forward pass.
        """
        parts: tuple[Tensor, ...] = rows.argsort().split(self.config.microbatch_rows or len(rows))
        return parts


def _in_parts(forward: Forward, tokens: Tensor, mask: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
    outputs = torch.cat([forward(tokens[part], mask[part]) for part in parts])
    return outputs[torch.cat(parts).argsort()]
