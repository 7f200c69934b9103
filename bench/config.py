"""Frozen configuration of a run, its validation and its identity. Imports no torch.

A run's identity is the hash of its *semantic* fields: what changes the numbers, not where or under
which preset name it ran. Two figures that share a cell share its run.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from bench.algorithms.base import Algorithm
from bench.errors import UserError
from bench.identity import digest
from bench.stage_config import StageConfig
from bench.staleness import Schedule

LrSchedule = Literal["per_update", "per_round"]
LrScale = Literal["none", "ess"]
Late = Literal["withhold", "drop"]
# Fields of a run that came later. At their default they are no part of its identity, so that runs
# from before there was such a field keep their ids.
LATER = ("lr_scale", "engine_rows", "max_age_updates", "late", "tokens_per_update")
EVALUATION_LATER = ("rows",)  # likewise


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """When and how a policy is evaluated."""

    every: int = 16  # updates; always also before the first and after the last
    prompts: int = 512
    split: Literal["eval", "tuning"] = "eval"  # tuning: prompts that no figure reports on
    temperature: float = 0.01
    max_completion_tokens: int | None = None  # None: as in training
    samples: int = 8  # completions kept as text, at the last evaluation
    rows: int | None = None  # generated at once; None: the run's ``microbatch_rows``


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One cell of a sweep and one seed."""

    stage: StageConfig
    algorithm: Algorithm
    schedule: Schedule  # on_policy, reuse(N), lag(S) or bounded(S)
    updates: int  # batches, each trained on for the algorithm's epochs
    prompts_per_batch: int
    learning_rate: float  # at the start; decays linearly to 0
    lr_schedule: LrSchedule = "per_update"  # when the linear decay takes a step
    # What multiplies the learning rate of an update: nothing, or the root of the effective sample
    # size as a share of the batch, which is 1 on-policy (VCPO, arXiv:2602.17616).
    lr_scale: LrScale = "none"
    # Older completions are withheld from the loss or dropped; None: all are trained on. They count
    # as one update older for each so many tokens: see ``bench.learning.selection``.
    max_age_updates: int | None = None
    late: Late = "withhold"
    tokens_per_update: int | None = None  # None: as old as their schedule says
    temperature: float = 0.7  # of sampling in training
    max_completion_tokens: int
    missing_eos_penalty: float | None = -1.0  # replaces the reward of an unfinished completion
    max_grad_norm: float | None = None  # gradients are clipped to it; None: not at all
    microbatch_rows: int | None = None  # rows per forward and backward; None: all at once
    # Rows that the Hugging Face engine generates at once, at least those of a prompt; None: all.
    engine_rows: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"  # of computation; training weights: float32
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    engine: str = "hf"  # what generates: see ``bench.engines``
    seed: int = 0  # of prompts' order and of sampling

    def __post_init__(self) -> None:
        """Refuse what cannot run.

        Raises:
            UserError: a number is out of range or N does not divide the updates.
        """
        for name in ("updates", "prompts_per_batch", "max_completion_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} = {getattr(self, name)}: must be at least 1")
        parts = {"engine_rows": self.engine_rows, "evaluation.rows": self.evaluation.rows}
        for name, rows in parts.items():
            if rows is not None and rows < 1:
                raise UserError(f"{name} = {rows}: must be at least 1")
        if self.learning_rate <= 0 or self.temperature <= 0:
            raise UserError("learning_rate and temperature must be above 0")
        n = self.schedule.round_length
        if self.updates % n:
            allowed = ", ".join(str(d) for d in range(1, self.updates + 1) if self.updates % d == 0)
            raise UserError(
                f"{self.schedule}: N = {n} does not divide updates = {self.updates}; "
                f"allowed: {allowed}"
            )
        if self.lr_schedule not in ("per_update", "per_round"):
            raise UserError(
                f"lr_schedule = {self.lr_schedule!r}: allowed are per_update, per_round"
            )

        if self.lr_scale not in ("none", "ess"):
            raise UserError(f"lr_scale = {self.lr_scale!r}: allowed are none, ess")
        if self.late not in ("withhold", "drop"):
            raise UserError(f"late = {self.late!r}: allowed are withhold, drop")
        for name, least in (("max_age_updates", 0), ("tokens_per_update", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name} = {value}: must be at least {least}")
        if self.max_age_updates is None and (self.late, self.tokens_per_update) != (
            "withhold",
            None,
        ):
            raise UserError("late and tokens_per_update say nothing without max_age_updates")

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of update ``step`` (0-based), not scaled: linear decay to 0.

        As in the authors' code the schedule is stepped before the update it serves, so the last
        step has rate 0. ``per_update`` steps it once per update; ``per_round`` once per generation
        round, as the authors do, which gives a larger N a smaller budget. They agree at N = 1.
        """
        n = self.schedule.round_length if self.lr_schedule == "per_round" else 1
        return self.learning_rate * (1 - (step // n + 1) * n / self.updates)

    def cell(self) -> dict[str, Any]:
        """Return all semantic fields but the seed, as plain JSON; see ``LATER``."""
        fields = asdict(self)
        del fields["seed"]
        for name in LATER:
            if fields[name] == getattr(RunConfig, name):
                del fields[name]
        for name in EVALUATION_LATER:
            if fields["evaluation"][name] == getattr(EvalConfig, name):
                del fields["evaluation"][name]
        return fields | {
            "stage": self.stage.identity(),
            "algorithm": self.algorithm.name,
            "algorithm_params": self.algorithm.identity(),
            "schedule": str(self.schedule),
        }

    @property
    def models_key(self) -> str:
        """The name of what the run starts from; see ``StageConfig.models_key``."""
        return self.stage.models_key(self.seed)

    def config_hash(self) -> str:
        """Return 12 hex digits shared by the seeds of one cell."""
        return self._cell_hash

    @cached_property
    def _cell_hash(self) -> str:
        return digest(self._cell)

    @cached_property
    def _cell(self) -> dict[str, Any]:
        return self.cell()

    def run_id(self, weights_digest: str) -> str:
        """Return the run's identity: cell, seed and the weights it starts from."""
        return f"{digest([self._cell, weights_digest])}-s{self.seed}"

    def with_seed(self, seed: int) -> Self:
        """Return the same cell with another seed."""
        other = replace(self, seed=seed)
        # Slow to compute for thousands of seeds.
        vars(other).update(_cell=self._cell, _cell_hash=self._cell_hash)
        return other


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is carried out. Of no influence on its numbers, except under ``bounded(S)``."""

    source: Literal["inline", "overlapped"] = "inline"  # engine in the learner's process, or not
    device: str | None = None  # of learner and frozen models: "cpu", "cuda:1"; None: a GPU if any
    engine_device: str | None = None  # of an engine on this machine; None: another GPU, if any
    learner_threads: int | None = None  # None: as they are
    engine_threads: int = 1  # of the engine's own process
    pin_cores: bool = False  # give learner and engine cores of their own; for a machine not shared
    start_timeout_s: float = 300.0  # until the engine has its model
    timeout_s: float = 300.0  # for one batch, and for one sum of the ranks of a learner
    max_restarts: int = 3  # of the engine, over the run
    # Mean absolute difference per token between an engine's log-probs and the learner's that is
    # taken for rounding; checked if the engine reports no checksum. A bfloat16 engine beside a
    # float32 learner was measured at 0.05.
    max_logprob_gap_nats: float = 0.1
    workers: Literal["local", "ray"] = "local"  # where the engine's process is
    ray_address: str = "auto"  # or host:port; see ``bench.processes.on_ray.connection.connect``
    engine_cpus: int | None = None  # reserved on the Ray cluster; None: one per thread
    engine_gpus: float = 0.0  # reserved on the Ray cluster; the engine's device
    checkpoint_dir: Path | None = None  # where the run is resumed from, if it was interrupted
    checkpoint_every: int = 16  # updates

    def __post_init__(self) -> None:
        """Refuse what cannot be done.

        Raises:
            UserError: a number is out of range, or there are not enough cores to pin.
        """
        if self.source not in ("inline", "overlapped"):
            raise UserError(f"source = {self.source!r}: allowed are inline, overlapped")
        if self.workers not in ("local", "ray"):
            raise UserError(f"workers = {self.workers!r}: allowed are local, ray")
        if self.workers == "ray" and (self.source == "inline" or self.pin_cores):
            raise UserError(
                "workers = 'ray': the engine is on other cores, source must be 'overlapped' and "
                "pin_cores False"
            )
        in_own_process = (self.source, self.workers) == ("overlapped", "local")
        if self.engine_device is not None and not in_own_process:
            raise UserError(
                f"engine_device = {self.engine_device!r}: only an engine in a process of its own "
                "on this machine has one (source 'overlapped', workers 'local')"
            )
        if (self.engine_cpus is not None and self.engine_cpus < 1) or self.engine_gpus < 0:
            raise UserError("engine_cpus must be at least 1 and engine_gpus at least 0")
        positive = (
            "engine_threads", "start_timeout_s", "timeout_s", "max_logprob_gap_nats",
            "checkpoint_every",
        )  # fmt: skip
        for name in positive:
            if getattr(self, name) <= 0:
                raise UserError(f"{name} = {getattr(self, name)}: must be above 0")
        if self.max_restarts < 0:
            raise UserError(f"max_restarts = {self.max_restarts}: must not be negative")
        if self.learner_threads is not None and self.learner_threads < 1:
            raise UserError(f"learner_threads = {self.learner_threads}: must be at least 1")
        self.cores()

    def cores(self) -> tuple[list[int] | None, list[int] | None]:
        """Return the learner's and the engine's cores, or None where they are not pinned.

        Raises:
            UserError: there are not as many as threads are asked for.
        """
        if not self.pin_cores or not hasattr(os, "sched_getaffinity"):
            return None, None
        available = sorted(os.sched_getaffinity(0))
        learner = self.learner_threads or 1
        engine = self.engine_threads if self.source == "overlapped" else 0
        if learner + engine > len(available):
            raise UserError(
                f"{learner} learner and {engine} engine threads cannot be pinned: this process "
                f"may use {len(available)} cores"
            )
        return available[:learner], available[learner : learner + engine] or None
