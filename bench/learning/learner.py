"""The learner: optimiser steps on a batch, for any algorithm, and snapshots of the policy."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bench.algorithms.base import Algorithm, Inputs, LossOutput, Minibatch, Outputs
from bench.config import RunConfig
from bench.learning import diagnostics, selection
from bench.learning.checkpoint import Checkpoint, check_tensors
from bench.learning.logprobs import (
    completion_logprobs,
    completion_logprobs_and_entropies,
    completion_values,
)
from bench.learning.parallel import ALONE, Ranks
from bench.learning.scoring import Scorer
from bench.learning.sequences import Sequences
from bench.types import LearnerStep, Rollouts, ScoredRollouts, WeightSnapshot


@dataclass(frozen=True, slots=True)
class _Trained:
    """What was measured while training on a batch: see ``LearnerStep``."""

    loss: float
    grad_norm: float
    logprob_gap_mean: float
    metrics: Mapping[str, float]
    diagnostics: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class _Backward:
    """What a backward pass knows."""

    result: LossOutput
    logprobs: Tensor  # [M, T], without gradient
    entropies: Tensor  # [M, T]
    gradient: Tensor | None  # of the loss by the log-probs, [M, T]; None: the loss is not finite


_UNTRAINABLE = _Trained(math.nan, math.nan, math.nan, {}, {})
_IDLE = _Trained(0.0, 0.0, 0.0, {}, {})  # nothing was left to train on


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
        ranks: Ranks = ALONE,
    ) -> None:
        """Take over ``policy`` and, where the algorithm trains values, ``value_model``.

        ``ranks`` are the processes that do each step together.
        """
        self.config = config
        self.ranks = ranks
        self.algorithm = algorithm
        self.policy = policy.eval()  # dropout off, as in the paper
        self.value_model = value_model.eval() if value_model is not None else None
        self.scorer = scorer
        self.policy_version = 0
        self._parameters = [
            p for m in (self.policy, self.value_model) if m is not None for p in m.parameters()
        ]
        self._policy_parameters = len(list(self.policy.parameters()))
        self._gradient_cosine = diagnostics.GradientCosine()
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
        for i, gradient in enumerate(self._gradient_cosine.previous):
            state |= {} if gradient is None else {f"gradient.{i}": gradient}
        return state

    def check(self, saved: Checkpoint) -> None:
        """Make sure that a checkpoint is of this learner's models.

        Raises:
            DamagedError: a tensor is missing, unknown or of another shape.
        """
        expected = {f"parameters.{i}": p.detach() for i, p in enumerate(self._parameters)}
        stepped = {key.split(".")[1] for key in saved.learner if key.startswith("optimizer.")}
        for i, p in enumerate(self._parameters):
            if str(i) in stepped:  # not where a parameter never had a gradient
                moments = {"step": torch.tensor(0.0), "exp_avg": p, "exp_avg_sq": p}
                expected |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
                if i < self._policy_parameters:
                    expected[f"gradient.{i}"] = p
        check_tensors("learner", saved.learner, expected)
        weights = self.policy.state_dict()
        for snapshot in saved.snapshots:
            check_tensors(f"snapshot {snapshot.policy_version}", snapshot.state, weights)

    def restore(self, policy_version: int, state: Mapping[str, Tensor]) -> None:
        """Go on from what ``state`` returned at this version; ``check`` it first."""
        optimizer = self._optimizer.state_dict()
        optimizer["state"] = {}
        previous: list[Tensor | None] = [None] * self._policy_parameters
        for key, value in state.items():
            kind, index, *name = key.split(".")
            if kind == "parameters":
                self._parameters[int(index)].data.copy_(value)
            elif kind == "gradient":
                previous[int(index)] = value.to(self.policy.device)
            else:
                optimizer["state"].setdefault(int(index), {})[name[0]] = value
        self._optimizer.load_state_dict(optimizer)
        self._gradient_cosine.previous = previous
        self.policy_version = policy_version

    def align(self) -> None:
        """Have every rank go on from rank 0's version and state."""
        version, state = self.ranks.tell_state(self.policy_version, self.state())
        if self.ranks.rank:
            self.restore(version, state)

    def step(self, rollouts: Rollouts | None) -> LearnerStep:
        """Train on one batch for the algorithm's epochs and return what was measured.

        Rank 0 tells the others the batch: there ``rollouts`` are None.

        A non-finite loss or gradient is not applied. It is returned, and the caller ends the run
        as diverged. Non-finite rewards or behaviour log-probs are a non-finite loss, whatever the
        algorithm makes of them: one that only compares rewards would train on.
        """
        version = self.policy_version
        start = time.perf_counter()
        rollouts = self.ranks.tell(rollouts)
        assert rollouts is not None
        sequences = Sequences.of(rollouts)
        scored = self.scorer.score(
            rollouts, sequences, ref_logprobs=self.algorithm.needs_ref_logprobs, ranks=self.ranks
        )
        scored_at = time.perf_counter()
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(version)
        chosen = selection.choose(scored, sequences, version, self.config)
        trained = self._train(chosen) if scored.is_finite else _UNTRAINABLE
        self.policy_version += 1

        return LearnerStep(
            policy_version=version,
            learning_rate=self._optimizer.param_groups[0]["lr"],
            loss=trained.loss,
            grad_norm=trained.grad_norm,
            reward_mean=float(scored.rewards.mean()),
            logprob_gap_mean=trained.logprob_gap_mean,
            score_s=scored_at - start,
            learn_s=time.perf_counter() - scored_at,
            metrics={**trained.metrics, **chosen.metrics},
            diagnostics=trained.diagnostics,
        )

    def _train(self, chosen: selection.Chosen) -> _Trained:
        """Take the algorithm's optimiser steps on what was chosen of a scored batch."""
        if chosen.is_empty:
            return _IDLE
        batch = self.algorithm.prepare(self._inputs(chosen.scored, chosen.sequences))
        minibatch = chosen.sequences.select(batch.rows)
        behaviour = chosen.scored.rollouts.logprobs[batch.rows]
        withheld = None if chosen.withheld is None else chosen.withheld[batch.rows]
        measured: diagnostics.Quantities = {}
        for epoch in range(self.algorithm.epochs):
            done = self._backward(minibatch, batch, withheld)
            loss = float(done.result.loss.detach())
            if epoch == 0:
                gap = (done.logprobs - behaviour).abs().sum() / batch.mask.sum()
                measured = diagnostics.of_policies(
                    done.logprobs, behaviour, done.entropies, batch.mask
                )
                cosine = self._gradient_cosine(self._parameters[: self._policy_parameters])
                measured["gradient_cosine"] = cosine
                if self.config.lr_scale == "ess":
                    self._scale_learning_rate(float(measured["ess_fraction"]) ** 0.5)
            if done.gradient is not None:
                measured |= diagnostics.of_loss(done.gradient, batch.mask, done.result.limits)
            grad_norm = float(
                torch.nn.utils.clip_grad_norm_(
                    self._parameters, self.config.max_grad_norm or math.inf
                )
            )
            if not (math.isfinite(loss) and math.isfinite(grad_norm)):
                break
            self._optimizer.step()
        columns = diagnostics.as_columns(measured)
        return _Trained(loss, grad_norm, float(gap), done.result.metrics, columns)

    def _scale_learning_rate(self, scale: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] *= scale

    @torch.no_grad()
    def _inputs(self, scored: ScoredRollouts, sequences: Sequences) -> Inputs:
        """Return what is known of the batch before the step."""
        proximal = values = None
        share = self.ranks.share(sequences, sequences.numbers, self.config.microbatch_rows)
        if self.algorithm.old_logprobs in ("proximal", "decoupled"):
            proximal = share.outputs(self._logprobs)
        if self.value_model is not None:
            values = share.outputs(self._values)
        return Inputs(scored, proximal, values, self.policy_version)

    def _backward(
        self, sequences: Sequences, batch: Minibatch, withheld: Tensor | None
    ) -> _Backward:
        """Accumulate the gradient of the algorithm's loss; return what is known of it.

        With micro-batches the loss is first differentiated with respect to the per-token outputs
        of the whole minibatch. Then the outputs of each micro-batch are computed again and its
        share of that gradient is propagated. So a pairwise or batch-normalised loss sees every
        row at once, and the gradient is exact for any micro-batch size. Ranks share the
        micro-batches, and the gradient is the sum of theirs.

        Args:
            sequences: the minibatch's rows, M of them.
            batch: what the algorithm prepared.
            withheld: [M] bool, the rows without gradient; None: none.
        """
        values = [self._values] if self.value_model is not None else []
        self._optimizer.zero_grad(set_to_none=True)

        share = self.ranks.share(sequences, batch.rows, self.config.microbatch_rows)
        if share.is_whole:
            told, *others = [f(sequences) for f in (self._logprobs_and_entropies, *values)]
        else:
            with torch.no_grad():
                told, *others = [share.outputs(f) for f in (self._logprobs_and_entropies, *values)]
        # Contiguous: the order of a sum, and its last bits, depend on the layout.
        outputs, entropies = [told[..., 0].contiguous(), *others], told[..., 1]
        if not share.is_whole:
            outputs = [output.requires_grad_() for output in outputs]
        outputs[0].retain_grad()
        inputs = selection.without_gradient(outputs, withheld)
        result = self.algorithm.loss(Outputs(*inputs), batch)
        if torch.isfinite(result.loss):
            result.loss.backward()
            if not share.is_whole:
                for forward, output in zip((self._logprobs, *values), outputs, strict=True):
                    assert output.grad is not None
                    for part, rows in zip(share.parts, share.rows, strict=True):
                        forward(part).backward(output.grad[rows])
            self.ranks.add_up(self._parameters)
        return _Backward(result, outputs[0].detach(), entropies.detach(), outputs[0].grad)

    def _logprobs_and_entropies(self, sequences: Sequences) -> Tensor:
        """Return both, stacked last: [M, T, 2]."""
        temperature = self.config.temperature
        with self._autocast():
            both = completion_logprobs_and_entropies(self.policy, sequences, temperature)
        return torch.stack(both, -1)

    def _logprobs(self, sequences: Sequences) -> Tensor:
        with self._autocast():
            return completion_logprobs(self.policy, sequences, self.config.temperature)

    def _values(self, sequences: Sequences) -> Tensor:
        with self._autocast():
            return completion_values(self.value_model, sequences)

    def _autocast(self) -> torch.autocast:
        """Compute in the config's dtype; trained weights and the optimiser stay in float32."""
        return torch.autocast(
            self.policy.device.type, torch.bfloat16, enabled=self.config.dtype == "bfloat16"
        )
