"""The loop: wait for a batch, learn from it, publish the weights."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from bench.assembly import assemble, assemble_learner, usable_device
from bench.config import Execution, RunConfig
from bench.engines import engine_class
from bench.errors import UserError
from bench.evaluate import Elapsed, Evaluator
from bench.learning import checkpoint
from bench.learning.checkpoint import Checkpoint
from bench.learning.learner import Learner
from bench.learning.parallel import ALONE, Ranks
from bench.sources import Source
from bench.types import LearnerStep, Records, Rollouts, RunResult, Span, StageModels, StepRecord

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, for displays and logs."""

    step: int  # updates done
    win_rate: float  # of the latest evaluation
    warning: str = ""  # one line for the user, where there is something to tell
    records: Records | None = field(default=None, compare=False)  # all so far, after an update


OnProgress = Callable[[Progress], None]


def train(
    config: RunConfig,
    models: StageModels,
    on_progress: OnProgress | None = None,
    execution: Execution | None = None,
    ranks: Ranks = ALONE,
) -> RunResult:
    """Run one cell of a sweep for one seed.

    A run whose loss or gradient becomes non-finite ends as ``diverged``; that is a result.

    Args:
        config: the run.
        models: SFT and reward checkpoints to start from.
        on_progress: called after every update, and with every warning.
        execution: how to carry it out; by default in this process, generation and training in
            turn. Checkpoints in ``checkpoint_dir`` stay until the caller has stored the result.
        ranks: those of the learner, of which this is rank 0; the others ``serve``.

    Raises:
        UserError: unknown task, algorithm, engine or parameter, or the engine cannot start or
            returns no tokens.
        HandoffError: the engine did not take over the learner's weights.
        WorkerError: the engine's process failed too often.
    """
    execution = execution or Execution()
    if execution.source == "inline" and not config.schedule.lock_step:
        raise UserError(f"schedule {config.schedule}: runs freely, source must be 'overlapped'")
    if execution.source == "inline" and engine_class(config.engine).own_process:
        raise UserError(
            f"engine {config.engine!r}: needs its own process, source must be 'overlapped'"
        )
    directory = None
    if execution.checkpoint_dir is not None:
        directory = execution.checkpoint_dir / config.run_id(models.digest)
    ranks.tell((config, models))
    # Before this process is limited to the learner's cores: the engine needs other cores.
    source, learner, evaluator = assemble(config, models, execution, ranks)
    with closing(source), on_learner_cores(execution):
        run = Run(config, source, learner, evaluator)
        return run.execute(on_progress, directory, execution.checkpoint_every)


def serve(ranks: Ranks, execution: Execution) -> None:
    """Do the share of a rank other than 0 in all runs of rank 0, until it tells of no more.

    Raises:
        UserError: a model cannot be loaded.
        RanksError: another rank has ended.
    """
    told: tuple[RunConfig, StageModels] | None
    while (told := ranks.tell(None)) is not None:
        config, models = told
        task, device = config.stage.task.build(), usable_device(execution.device)
        learner = assemble_learner(config, models, task, device, ranks)
        with on_learner_cores(execution):
            follow(learner)


def follow(learner: Learner) -> None:
    """Do the share of a rank other than 0 in a run that rank 0 executes."""
    learner.align()
    while learner.policy_version < learner.config.updates and learner.step(None).finite:
        pass


class Run:
    """A run in progress: source, learner and evaluator, and what they measured so far."""

    def __init__(
        self, config: RunConfig, source: Source, learner: Learner, evaluator: Evaluator
    ) -> None:
        """Connect them; nothing runs yet."""
        self._config = config
        self._source = source
        self._learner = learner
        self._evaluator = evaluator
        self._records = Records([], [], [], [], [])

    def execute(
        self,
        on_progress: OnProgress | None = None,
        directory: Path | None = None,
        checkpoint_every: int = 1,
    ) -> RunResult:
        """Run to the end, from the last checkpoint in ``directory`` if there is one.

        One that is damaged is removed, with a warning.
        """
        config, source, learner = self._config, self._source, self._learner
        saved = None
        if directory is not None:
            saved = checkpoint.load_latest(directory, learner.check, partial(_warn, on_progress))
        if saved is not None:
            self._records = saved.records
            learner.restore(saved.step, saved.learner)
            source.resume(saved.step, saved.snapshots)
        learner.align()
        if saved is None:
            self._evaluate()
            source.publish(learner.snapshot())
        records = self._records
        for step in range(len(records.steps), config.updates):
            start = time.perf_counter()
            rollouts = source.next()  # the only line that may wait
            waited = time.perf_counter()
            self._require_tokens(rollouts)
            measured = learner.step(rollouts)
            learned = time.perf_counter()
            if source.wants(learner.policy_version):
                source.publish(learner.snapshot())
            end = time.perf_counter()
            records.wall_s += end - start
            self._keep(measured, rollouts, start, waited, learned, end)
            if not measured.finite:
                return self._result("diverged", step)
            done = step + 1
            if done % config.evaluation.every == 0 or done == config.updates:
                self._evaluate()
            if directory is not None and done % checkpoint_every == 0:
                self._save(directory)
            if on_progress is not None:
                on_progress(Progress(done, records.evals[-1].win_rate, records=records))
        return self._result("completed", None)

    def _require_tokens(self, rollouts: Rollouts) -> None:
        if not rollouts.completion_mask.any():
            raise UserError(
                f"engine {self._config.engine!r}: returned no completion tokens for batch "
                f"{len(self._records.steps)}, an engine must return at least one per completion"
            )

    def _keep(
        self,
        measured: LearnerStep,
        rollouts: Rollouts,
        start: float,
        waited: float,
        learned: float,
        end: float,
    ) -> None:
        """Record one update."""
        step = measured.policy_version
        self._records.steps.append(
            StepRecord(
                step=step,
                policy_version=step,
                rollout_version=rollouts.policy_version,
                staleness=step - rollouts.policy_version,
                learning_rate=measured.learning_rate,
                loss=measured.loss,
                grad_norm=measured.grad_norm,
                reward_mean=measured.reward_mean,
                finished_fraction=float(rollouts.finished.float().mean()),
                completion_tokens=int(rollouts.completion_mask.sum()),
                logprob_gap_mean=measured.logprob_gap_mean,
                wait_s=waited - start,
                generate_s=rollouts.generate_s,
                score_s=measured.score_s,
                learn_s=measured.learn_s,
                publish_s=end - learned,
                metrics={**measured.metrics, **rollouts.transfer},
                **measured.diagnostics,
            )
        )
        scored = waited + measured.score_s
        self._records.spans += [
            Span("learner", "score", waited, scored, step),
            Span("learner", "learn", scored, learned, step),
            Span("learner", "publish", learned, end, step + 1),
        ]

    def _evaluate(self) -> None:
        records, config = self._records, self._config
        done = len(records.steps)
        episodes = done * config.prompts_per_batch
        completions = episodes * self._learner.algorithm.completions_per_prompt
        start = time.perf_counter()
        record, records.samples, records.outcomes = self._evaluator.evaluate(
            self._learner.policy, Elapsed(done, episodes, completions, records.wall_s)
        )
        records.evals.append(record)
        records.spans.append(Span("learner", "evaluate", start, time.perf_counter(), done))

    def _save(self, directory: Path) -> None:
        step = len(self._records.steps)
        records = replace(self._records, spans=self._spans())
        checkpoint.save(
            directory,
            Checkpoint(step, self._learner.state(), self._source.snapshots(), records),
        )

    def _spans(self) -> list[Span]:
        return sorted([*self._records.spans, *self._source.spans], key=lambda span: span.start_s)

    def _result(self, status: str, diverged_at: int | None) -> RunResult:
        records = self._records
        return RunResult(
            status,
            diverged_at,
            records.steps,
            records.evals,
            records.samples,
            records.outcomes,
            records.wall_s,
            self._spans(),
        )


def _warn(on_progress: OnProgress | None, warning: str) -> None:
    """Tell the user of something before the first update."""
    _log.warning("%s", warning)
    if on_progress is not None:
        on_progress(Progress(0, math.nan, warning))


@contextmanager
def on_learner_cores(execution: Execution) -> Iterator[None]:
    """Set this process to the learner's threads and cores; restore its own at the end."""
    threads = torch.get_num_threads()
    cores, _ = execution.cores()
    before = os.sched_getaffinity(0) if cores is not None else None
    if execution.learner_threads is not None:
        torch.set_num_threads(execution.learner_threads)
    if cores is not None:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if before is not None:
            os.sched_setaffinity(0, before)
