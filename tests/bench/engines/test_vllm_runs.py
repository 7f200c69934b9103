"""Whole runs whose engine is vLLM."""

import os
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import GPTNeoXForSequenceClassification

from bench import assembly
from bench.algorithms.online_dpo import OnlineDpo
from bench.config import EvalConfig, Execution, RunConfig
from bench.errors import UserError
from bench.experiments.stage_configs import smoke_stage
from bench.loop import train
from bench.processes import shared_memory
from bench.stages.tiny_models import gpt_neox_config, initial_policy
from bench.staleness import ON_POLICY, bounded, lag, reuse
from bench.types import StageModels

from ..live_processes import runs as process_runs
from .conftest import Borrowed, start
from .vllm_hosts import Mortal, Versatile

UPDATES = 8
SIZE = "0.4m"  # the smallest whose heads vLLM serves on a CPU
EXECUTION = Execution(source="overlapped", learner_threads=1)
needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vllm is not installed: `tox -e vllm` runs this"
)


def config(schedule):
    return RunConfig(
        stage=replace(smoke_stage(), model=SIZE),
        algorithm=OnlineDpo(),
        schedule=schedule,
        updates=UPDATES,
        prompts_per_batch=8,
        learning_rate=1e-3,
        max_completion_tokens=16,
        evaluation=EvalConfig(every=UPDATES, prompts=8, samples=1),
        engine="vllm",
    )


def random_models(directory, size):
    """Return an untrained policy and reward model."""
    tokenizer = smoke_stage().task.build().tokenizer
    models = StageModels(directory / "sft", directory / "reward", "random", "random")
    initial_policy(size, tokenizer, seed=0).save_pretrained(models.sft_dir)
    torch.manual_seed(1)
    settings = gpt_neox_config(size, tokenizer)
    settings.num_labels = 1
    GPTNeoXForSequenceClassification(settings).save_pretrained(models.reward_dir)
    return models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return random_models(tmp_path_factory.mktemp("models"), SIZE)


@pytest.fixture(scope="module")
def worker(models):
    tokenizer = smoke_stage().task.build().tokenizer
    tokens = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    worker = start(partial(Versatile, models.sft_dir, **tokens))
    yield worker
    worker.close()


@pytest.fixture
def run(worker, models, monkeypatch):
    """Return a function that runs a schedule with the engine of this module."""

    def run(schedule, **options):
        monkeypatch.setattr(
            assembly,
            "local_launch",
            lambda *_: lambda directory: Borrowed(worker, directory, **options),
        )
        return train(config(schedule), models, execution=EXECUTION)

    return run


@pytest.fixture
def left_behind(tmp_path, monkeypatch):
    """Return a function that returns the processes and files that a run left."""
    for name in ("shared_memory", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path / "shared_memory")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))

    def children():
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()

    before = children()

    def left():
        files = [*tmp_path.glob("shared_memory/*"), *tmp_path.glob("temporary/vllm*")]
        return [*(set(children()) - set(before)), *files]

    return left


@needs_vllm
@pytest.mark.parametrize(
    ("schedule", "versions"),
    [
        (ON_POLICY, [0, 1, 2, 3, 4, 5, 6, 7]),
        (reuse(2), [0, 0, 2, 2, 4, 4, 6, 6]),
        (lag(1), [0, 0, 1, 2, 3, 4, 5, 6]),
    ],
    ids=str,
)
def test_batches_are_generated_by_the_versions_that_the_schedule_names(run, schedule, versions):
    result = run(schedule)
    assert result.status == "completed"
    assert [step.rollout_version for step in result.steps] == versions
    assert [step.staleness for step in result.steps] == [i - v for i, v in enumerate(versions)]
    assert all(step.metrics["checksum_ok"] == 1.0 for step in result.steps)
    # The tag tells the truth: the learner agrees with fresh batches, and with no others.
    assert all((step.logprob_gap_mean < 1e-4) == (step.staleness == 0) for step in result.steps)


@needs_vllm
def test_a_free_running_engine_takes_weights_in_flight_and_stays_within_the_bound(run):
    result = run(bounded(2), wait_s=1.0)
    steps = result.steps
    assert [step.staleness for step in steps] == [s.step - s.rollout_version for s in steps]
    assert 0 < max(step.staleness for step in steps) <= 2
    mean = [step.metrics["token_staleness_mean"] for step in steps]
    assert all(0 <= m <= step.staleness for m, step in zip(mean, steps, strict=True))
    # The engine waits within each batch for newer weights: tokens of two versions.
    assert any(m % 1 > 0 for m in mean)
    assert all((step.logprob_gap_mean < 1e-4) == (step.staleness == 0) for step in steps)


@needs_vllm
def test_a_worker_killed_while_it_generates_changes_nothing(
    run, models, left_behind, monkeypatch, tmp_path
):
    record = tmp_path / "killed"

    class MortalOnce(Mortal):
        from_checkpoint = partial(Mortal, record)

    with monkeypatch.context() as patch:
        patch.setattr(assembly, "engine_class", lambda _: MortalOnce)
        result = train(config(lag(1)), models, execution=EXECUTION)
    undisturbed = run(lag(1))
    assert not process_runs(int(record.read_text()))
    assert [span.step for span in result.spans if span.name == "restart"] == [3]
    assert [step.rollout_version for step in result.steps] == [0, 0, 1, 2, 3, 4, 5, 6]
    # Losses depend on every token of every batch so far.
    expected, losses = ([step.loss for step in r.steps] for r in (undisturbed, result))
    assert losses == pytest.approx(expected, abs=1e-4)
    assert left_behind() == []


def test_an_engine_that_cannot_start_is_one_line_and_leaves_nothing(tmp_path_factory, left_behind):
    models = random_models(tmp_path_factory.mktemp("models"), "0.1m")  # heads of size 16
    if find_spec("vllm") is None:
        why = "^engine 'vllm' is not installed: install the extra [^\n]*$"
    else:
        why = "^vLLM cannot serve [^\n]*: attention heads of size 16: on a CPU it allows 32, 64"
    with pytest.raises(UserError, match=why):
        train(config(lag(1)), models, execution=EXECUTION)
    assert left_behind() == []


def test_vllm_is_refused_inline(tmp_path):
    with pytest.raises(UserError, match=r"^engine 'vllm': needs its own process, source must be"):
        train(config(lag(1)), StageModels(tmp_path, tmp_path, "none", "none"))
