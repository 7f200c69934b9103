"""Whole runs of a few updates with a tiny random model, and what of them must be the same."""

import os
import signal
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import GPTNeoXForCausalLM, GPTNeoXForSequenceClassification

from bench import algorithms
from bench.assembly import local_launch
from bench.config import EvalConfig, Execution, RunConfig
from bench.engines.hf import HfEngine
from bench.evaluate import Evaluator
from bench.learning.learner import Learner
from bench.learning.parallel import ALONE
from bench.learning.scoring import Scorer
from bench.loop import Run
from bench.randomness import PromptStream
from bench.sources import InlineSource, OverlappedSource
from bench.sources.handoff import Handoff
from bench.staleness import Schedule
from bench.types import Prompt, Sampling

from ..conftest import EOS, PAD, VOCABULARY, FakeTask, neox_config
from .fake_config import STAGE

UPDATES = 8
MEASURED = {"checksum_ok", "handoff_s"}  # of the algorithm's metrics, those that a source adds


def config(schedule: Schedule, *, seed=0, algorithm="online_dpo") -> RunConfig:
    return RunConfig(
        stage=STAGE,
        algorithm=algorithms.build(algorithm),
        schedule=schedule,
        updates=UPDATES,
        prompts_per_batch=3,
        learning_rate=0.01,
        max_completion_tokens=8,
        evaluation=EvalConfig(every=3, prompts=6, samples=2),
        seed=seed,
    )


def policy() -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    return GPTNeoXForCausalLM(neox_config()).eval()


def reward_model() -> GPTNeoXForSequenceClassification:
    torch.manual_seed(1)
    return GPTNeoXForSequenceClassification(neox_config(num_labels=1)).eval()


def prompts() -> tuple[Prompt, ...]:
    rng = np.random.default_rng(0)
    return tuple(
        Prompt(i, tuple(rng.integers(2, VOCABULARY, 3 + i % 6).tolist())) for i in range(12)
    )


def source_arguments(config: RunConfig) -> tuple:
    algorithm = config.algorithm
    return (
        config.schedule,
        PromptStream(prompts(), config.prompts_per_batch, config.seed),
        Sampling(0.7, config.max_completion_tokens, algorithm.completions_per_prompt),
        config.seed,
    )


def inline(config: RunConfig) -> InlineSource:
    engine = HfEngine(policy(), pad_token_id=PAD, eos_token_id=EOS)
    return InlineSource(engine, *source_arguments(config))


def overlapped(config: RunConfig, launch, execution: Execution) -> OverlappedSource:
    return OverlappedSource(
        launch,
        Handoff(),
        *source_arguments(config),
        batches=config.updates,
        execution=execution,
    )


def run(config: RunConfig, source, slow=lambda: None, ranks=ALONE) -> tuple[Run, Learner]:
    """Return a run and its learner; ``slow`` is called before every step."""
    scorer = Scorer(
        reward_model(),
        policy(),
        temperature=0.7,
        missing_eos_penalty=-1.0,
        microbatch_rows=config.microbatch_rows,
    )
    algorithm = config.algorithm

    class SlowLearner(Learner):
        def step(self, rollouts):
            slow()
            return super().step(rollouts)

    value_model = reward_model() if algorithm.needs_values else None
    learner = SlowLearner(config, algorithm, policy(), scorer, value_model, ranks)
    return Run(config, source, learner, Evaluator(config, FakeTask(prompts()), scorer)), learner


def weights(learner) -> dict[str, torch.Tensor]:
    """Return a copy of all that the learner trains, and of its optimiser."""
    return {name: value.clone() for name, value in learner.state().items()}


def outcome(result, learner) -> dict[str, object]:
    """Return all that does not depend on time, to the last bit."""

    def timeless(record, *drop):
        row = asdict(record)
        return {k: v for k, v in row.items() if not k.endswith("_s") and k not in drop}

    return {
        "steps": [
            timeless(step, "metrics") | {k: v for k, v in step.metrics.items() if k not in MEASURED}
            for step in result.steps
        ],
        "evals": [timeless(record) for record in result.evals],
        "samples": [asdict(sample) for sample in result.samples],
        "outcomes": [asdict(one) for one in result.outcomes],
        "weights": {name: value.tolist() for name, value in learner.state().items()},
        "status": result.status,
    }


def undisturbed(config: RunConfig) -> dict[str, object]:
    this, learner = run(config, inline(config))
    return outcome(this.execute(), learner)


def hf_factory(model_dir: Path) -> partial:
    return partial(
        HfEngine.from_checkpoint,
        model_dir,
        dtype="float32",
        device="cpu",
        pad_token_id=PAD,
        eos_token_id=EOS,
    )


def killed(config: RunConfig, model_dir: Path, checkpoints: Path, every: int, at: int) -> None:
    """Run with a real worker and kill this process, as it is, after update ``at``."""
    torch.set_num_threads(1)
    source = overlapped(config, local_launch(hf_factory(model_dir), Execution()), Execution())
    print(source._worker.pid, source._handoff.directory, flush=True)
    this, _ = run(config, source)

    def on_progress(progress):
        if progress.step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    this.execute(on_progress, checkpoints, every)
