"""Runs without models: numbers made up from the configuration and the seed."""

import errno
import hashlib
import math
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa

from bench.config import EvalConfig, RunConfig
from bench.errors import UserError
from bench.experiments.arms import timed_arm
from bench.experiments.cells import Trained
from bench.records import store
from bench.staleness import reuse
from bench.types import EvalRecord, Outcome, Sample, Span, StepRecord

from .fake_config import STAGE, FakeAlgorithm

MODELS = {STAGE.hash(): SimpleNamespace(digest="0123456789ab", sft_digest="ba9876543210")}
PROVENANCE = {
    "git_revision": "f" * 40,
    "git_dirty": False,
    "started_utc": "2024-01-01T00:00:00",
    "python": "3.11.0",
    "torch": None,
    "transformers": None,
    "trl": None,
    "host_cpu": "a processor",
    "cores": 2,
    "threads": 1,
    "device": "cpu",
    "constraints_hash": None,
}


def config(algorithm: str = "rloo", n: int = 1, seed: int = 0, updates: int = 4) -> RunConfig:
    return RunConfig(
        stage=STAGE,
        algorithm=FakeAlgorithm(name=algorithm),
        schedule=reuse(n),
        updates=updates,
        prompts_per_batch=8,
        learning_rate=1e-3,
        max_completion_tokens=4,
        evaluation=EvalConfig(every=2, prompts=16),
        seed=seed,
    )


def number(*key: object) -> float:
    """Return a number in [0, 1) that depends on the key only."""
    return int(hashlib.sha256(repr(key).encode()).hexdigest()[:8], 16) / 2**32


def result(run: RunConfig, status: str = "completed") -> SimpleNamespace:
    """Return what training a run would, shaped as ``bench.types.RunResult``.

    The final win rate is 0.8 - 0.02 log2 N and up to 0.01 more by the seed; at first it is 0.5.
    """
    key = (run.config_hash(), run.seed)
    gain = 0.3 - 0.02 * math.log2(run.schedule.n)
    steps = [
        StepRecord(
            step=i, policy_version=i, rollout_version=run.schedule.version_at(i),
            staleness=i - run.schedule.version_at(i), learning_rate=run.learning_rate_at(i),
            loss=number(key, i), grad_norm=1.0, reward_mean=number(key, "r", i),
            finished_fraction=1.0, completion_tokens=32, logprob_gap_mean=0.0, wait_s=time.time(),
            generate_s=0.1, score_s=0.1, learn_s=0.1, publish_s=0.1,
            metrics={"clip_fraction": number(key, "c", i)},
        )
        for i in range(run.updates)
    ]  # fmt: skip
    evals = [
        EvalRecord(
            step=i, episodes=8 * i, completions=16 * i, wall_s=time.time(),
            win_rate=0.5 + i / run.updates * (gain + 0.01 * number(key, "w")), win_rate_n=16,
            gold_mean=0.0, reference_gold_mean=0.0, reward_mean=0.0, kl_nats=float(i),
            perplexity=2.0, perplexity_diluted=1.1, completion_tokens_mean=4.0,
            finished_fraction=1.0, evaluate_s=0.1,
        )
        for i in range(0, run.updates + 1, max(2, run.updates // 8))
    ]  # fmt: skip
    samples = [Sample(run.updates, 0, "a prompt", "a completion", "a reference", 1.0, 0.5, 0.2)]
    words = ("win", "tie", "loss")
    outcomes = [
        Outcome(i, words[int(3 * number(key, "o", i))], 4 + i % 3, 5)
        for i in range(run.evaluation.prompts)
    ]
    return SimpleNamespace(
        status=status,
        diverged_at=None if status == "completed" else 2,
        steps=steps,
        evals=evals,
        samples=samples,
        outcomes=outcomes,
        wall_s=time.time(),
        spans=[Span("learner", "learn", time.time(), time.time(), 0)],
    )


def write(
    results_dir: Path,
    run: RunConfig,
    status: str = "completed",
    preset: str = "smoke",
    **provenance,
) -> str:
    return store.write_run(
        results_dir,
        run,
        result(run, status),
        preset=preset,
        weights_digest="0123456789ab",
        sft_digest="ba9876543210",
        timed=timed_arm(run),
        provenance={**PROVENANCE, **provenance},
    )


def misbehave(algorithm: str, *, first: bool) -> None:
    """Do what the name says: others than these do nothing."""
    match algorithm:
        case "raises":
            raise RuntimeError("the loss has no opinion\nand a second line")
        case "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case "refused":
            raise UserError("algorithm 'refused': allowed are none")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "killed_once" if first:
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs":
            time.sleep(3600)


def status(algorithm: str) -> str:
    return "diverged" if algorithm == "diverges" else "completed"


@dataclass(frozen=True)
class FakeExecute:
    """What a worker does: sleeps, makes up numbers, or misbehaves as the algorithm's name says.

    For each time that a job is begun ``results_dir / "executed"`` gets a file with the worker's id.
    The contents of the files ``weights`` in the worker's directories become the git revision.
    """

    results_dir: Path
    update_s: float = 0.0

    def __call__(self, job, on_progress, *directories) -> Trained:
        run = job.payload.config
        log = self.results_dir / "executed"
        log.mkdir(parents=True, exist_ok=True)
        first = not list(log.glob(f"{job.log_name}-*"))
        (log / f"{job.log_name}-{time.time_ns()}").write_text(str(os.getpid()))
        for step in range(run.updates):
            time.sleep(self.update_s)
            on_progress(step + 1, 0.5)
        misbehave(run.algorithm.name, first=first)
        weights = "".join((directory / "weights").read_text() for directory in directories)
        return Trained(
            result(run, status(run.algorithm.name)),
            source="inline",
            provenance=PROVENANCE | ({"git_revision": weights} if weights else {}),
        )


def make_older(results_dir, run_id):
    """Turn a run with files of its own into one from before there was a table of outcomes."""
    path = results_dir / "runs" / f"{run_id}.parquet"
    row = store.load(path, "runs")
    at = row.schema.get_field_index("sft_digest")
    store.write_arrow(path, row.set_column(at, row.schema.field(at), pa.nulls(1, pa.string())))
    (results_dir / "outcomes" / path.name).unlink()
