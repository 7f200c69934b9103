"""Whole updates: publish, generate, score, learn; beside TRL's trainer, and overlapped."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.assembly import assemble
from bench.config import Execution, RunConfig
from bench.experiments import arms as timing
from bench.learning.learner import Learner
from bench.loop import on_learner_cores
from bench.sources import Source
from bench.throughput import workload
from bench.throughput.measure import Meter, Series
from bench.throughput.table import Shape
from bench.throughput.trl_baseline import TrlOnlineDpo

IN_A_ROW = {"smoke": 8, "0.1m": 6, "0.4m": 4, "2m": 2}  # updates of a round of overlap, by model


@dataclass
class Update:
    """Calls do what the training loop does, evaluation left out, on the cores of its run.

    It starts with publishing, which is the last thing in the loop. So the engine of an overlapped
    run is idle between two rounds, unless it is slower than the learner.
    """

    source: Source
    learner: Learner
    execution: Execution
    shape: Shape
    round_s: float = 0.0  # the last one's
    generate_s: float = 0.0  # of which
    train_s: float = 0.0  # of which, to score and to learn

    @classmethod
    def of(cls, config: RunConfig, directory: Path, execution: Execution | None = None) -> Update:
        """Put a run together from models saved in ``directory``."""
        models = workload.save(directory, config.stage.model)
        execution = execution or Execution()
        source, learner, _ = assemble(config, models, execution)
        return cls(
            source, learner, execution, workload.shape(config.algorithm.name, config.stage.model)
        )

    def __call__(self, updates: int = 1) -> None:
        """Do one round."""
        self.generate_s = self.train_s = 0.0
        start = time.perf_counter()
        with on_learner_cores(self.execution):
            for _ in range(updates):
                self.source.publish(self.learner.snapshot())
                rollouts = self.source.next()
                measured = self.learner.step(rollouts)
                self.generate_s += rollouts.generate_s
                self.train_s += measured.score_s + measured.learn_s
                assert int(rollouts.completion_mask.sum()) == self.shape.tokens
        self.round_s = time.perf_counter() - start

    @property
    def rest_s(self) -> float:
        """The rest of the last round, neither generation nor training: transfers."""
        return self.round_s - self.generate_s - self.train_s

    @property
    def ideal_s(self) -> float:
        """The time of the last round if generation and training had overlapped fully."""
        return max(self.generate_s, self.train_s) + self.rest_s

    def series(self, name: str, updates: int = 1) -> Series:
        """Return updates as a series, some of them in each round."""
        return Series(
            name=name,
            run=lambda: self(updates),
            tokens=updates * self.shape.tokens,
            completions=updates * self.shape.rows,
        )


@pytest.mark.parametrize("algorithm", workload.ALGORITHMS)
def bench_update(measure: Meter, tmp_path: Path, algorithm: str) -> None:
    """Do one update: completions per second."""
    update = Update.of(workload.config(algorithm), tmp_path)
    measure("update", update.shape, update.series("inline"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL's, of what transformers renames
def bench_update_beside_trl(measure: Meter, tmp_path: Path) -> None:
    """Do one update of online DPO and one of TRL's, on the same models, prompts and lengths."""
    config = workload.config("online_dpo")
    update = Update.of(config, tmp_path)
    own = update.series("inline")
    with TrlOnlineDpo(config, workload.save(tmp_path), tmp_path / "trl") as trl:
        other = replace(own, name="trl_online_dpo", run=trl.step, target=1.5)
        measure("update_beside_trl", update.shape, own, other, rounds=21)
        ended = trl.trainer.stats["val/contain_eos_token"]
    assert ended
    assert not any(ended)  # none of TRL's completions was shorter


@pytest.mark.slow
@pytest.mark.skipif(timing.available_cores() < 2, reason="each side needs a core")
@pytest.mark.parametrize("model", workload.MODELS)
def bench_update_overlapped(measure: Meter, tmp_path: Path, model: str) -> None:
    """Generate in another process while learning, one step off-policy, beside taking turns.

    The ideal is computed from the synchronous update: max(generate, train) + the rest.
    """
    config, updates = workload.config("online_dpo", model), IN_A_ROW[model]
    runs: dict[str, Update] = {}
    with ExitStack() as stack:
        for arm in timing.ARMS:
            timed = timing.arm(config, arm)
            runs[arm] = Update.of(timed, tmp_path / arm, timing.execution(timed))
            stack.enter_context(closing(runs[arm].source))
        split, whole, overlapped = (runs[arm].series(arm, updates) for arm in timing.ARMS)
        parts = {
            "generate": lambda: runs["split"].generate_s,
            "train": lambda: runs["split"].train_s,
            "rest": lambda: runs["split"].rest_s,
            "ideal": lambda: runs["split"].ideal_s,
        }
        measure(
            "update_overlapped",
            runs["split"].shape,
            overlapped,
            split,
            *(replace(split, name=name, part_s=part_s) for name, part_s in parts.items()),
            whole,
            rounds=3 if model == "2m" else 9,
            warmup_rounds=1,
        )
