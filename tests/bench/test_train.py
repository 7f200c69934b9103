"""The front door: what its flags mean, and that its run is the sweep's."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from bench import train
from bench.algorithms.corrections import ImportanceWeight
from bench.algorithms.ppo import Ppo
from bench.config import EvalConfig, Execution
from bench.errors import UserError
from bench.experiments.presets import preset
from bench.experiments.starting_models import starting_models
from bench.experiments.sweep import sweep
from bench.paths import ROOT
from bench.records import store
from bench.stage_config import StageConfig
from bench.staleness import lag, reuse
from bench.tasks.tldr_tiny.world import TldrTinyConfig
from tests.bench import wandb_files

from .live_processes import eventually, runs


def test_without_flags_it_is_the_presets_run_of_online_dpo():
    given = train.parse([])
    assert given.run == preset("tiny").run_config("online_dpo", given.run.schedule)
    assert str(given.run.schedule) == "on_policy"
    # one thread, as in a sweep, which makes its numbers the sweep's
    assert given.execution == Execution(learner_threads=1)


def test_each_flag_sets_its_field():
    given = train.parse(
        [
            "--preset",
            "smoke",
            "--algorithm",
            "ppo",
            "--algorithm.kl-coef",
            "0.02",
            "--schedule",
            "reuse(2)",
            "--seed",
            "7",
            "--learning-rate",
            "1e-4",
            "--evaluation.every",
            "4",
            "--task.verbs",
            "3",
            "--task.objects",
            "4",
            "--task.statements",
            "2",
            "--task.max-own",
            "1",
            "--task.max-clauses",
            "2",
            "--stages.comparisons",
            "50",
            "--stage.seed",
            "1",
            "--execution.source",
            "overlapped",
            "--execution.learner-threads",
            "2",
            "--execution.timeout-s",
            "9",
            "--execution.max-restarts",
            "0",
            "--max-grad-norm",
            "1.5",
        ]
    )
    run = given.run
    assert run.algorithm == Ppo(completions_per_prompt=2, kl_coef=0.02)
    assert (run.schedule, run.seed, run.learning_rate) == (reuse(2), 7, 1e-4)
    assert run.evaluation == EvalConfig(every=4, prompts=32)
    assert run.max_grad_norm == 1.5
    assert type(run.stage) is StageConfig  # so that it can be sent to other processes
    task = run.stage.task
    assert isinstance(task, TldrTinyConfig)
    assert (task.verbs, task.statements, task.eval_prompts) == (3, 2, 128)
    assert (run.stage.params.comparisons, run.stage.params.sft_steps) == (50, 150)
    assert run.stage.seed == 1
    assert given.execution == Execution(
        source="overlapped", learner_threads=2, timeout_s=9, max_restarts=0
    )


def test_a_correction_comes_last_with_its_parameters():
    given = train.parse(
        [
            "--algorithm",
            "rloo",
            "--algorithm.old-logprobs",
            "decoupled",
            "algorithm.correction:importance-weight",
            "--algorithm.correction.level",
            "sequence",
            "--algorithm.correction.cap",
            "2",
        ]
    )
    assert given.run.algorithm.correction == ImportanceWeight(level="sequence", cap=2.0)
    assert given.run.algorithm.kl_coef == 0.1  # as tuned


def test_the_model_is_one_of_the_presets():
    assert train.parse(["--model", "0.4m"]).run.stage.model == "0.4m"
    with pytest.raises(UserError, match=r"model '7b': preset tiny has 0\.1m, 0\.4m"):
        train.parse(["--model", "7b"])


def test_every_field_of_the_execution_has_a_flag(capsys):
    with pytest.raises(SystemExit) as raised:
        train.parse(["--algorithm", "grpo", "--help"])
    assert raised.value.code == 0
    shown = capsys.readouterr().out
    for name in Execution.__dataclass_fields__:
        assert re.search(rf"--execution\.{name.replace('_', '-')}[ ,]", shown), name
    assert "--algorithm.clip-range FLOAT" in shown  # the chosen algorithm's own


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "preset 'huge': allowed are smoke, tiny, worth, small, paper"),
        (["--algorithm", "sarsa"], "algorithm 'sarsa': allowed are asymre, "),
        (["--task", "chess"], "task 'chess': allowed are arithmetic, chat_worth, gsm8k, "),
        (["--updates", "0"], "updates = 0: must be at least 1"),
        (["--algorithm.beta", "-1"], "beta = -1.0: must be a number above 0"),
        (["--schedule", "lag(x)"], "schedule 'lag(x)': allowed are on_policy, reuse(N)"),
        (["--schedule", "reuse(3)"], "N = 3 does not divide updates = 128"),
        (["--execution.timeout-s", "0"], "timeout_s = 0.0: must be above 0"),
        (["--nope", "1"], "Unrecognized options: --nope, 1"),
    ],
)
def test_what_is_not_possible_ends_in_status_2_and_is_said(capsys, monkeypatch, arguments, message):
    monkeypatch.setenv("COLUMNS", "200")
    try:
        status = train.main(arguments)
    except SystemExit as error:
        status = error.code
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert (status, message in said) == (2, True), said


def test_the_record_is_not_written_into():
    assert train.main(["--out", str(ROOT / "results" / "reference" / "tiny")]) == 2


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Return a directory with a run of the command and its models, and what the command said."""
    directory = tmp_path_factory.mktemp("trained") / "mine"
    done = subprocess.run(
        [sys.executable, "-m", "bench.train", "--preset", "smoke", "--schedule", "lag(1)",
         "--out", directory, "--wandb", "offline"],
        capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "WANDB_DIR": str(directory.parent)},
    )  # fmt: skip
    return directory, done.stdout


@pytest.mark.slow
def test_its_run_is_the_sweeps_to_the_bit_and_its_last_line_says_what_was_found(mine, tmp_path):
    directory, said = mine
    config = preset("smoke").run_config("online_dpo", lag(1))
    console = Console(file=StringIO())
    models = starting_models(
        [config],
        results_dir=directory,
        record_dir=None,
        workers=1,
        console=console,
    )
    (run_id,) = sweep(
        [config],
        models,
        results_dir=tmp_path / "swept",
        preset="smoke",
        workers=1,
        console=console,
    )
    tables = {
        name: [store.read(place, name, [run_id]) for place in (directory, tmp_path / "swept")]
        for name in ("evals", "steps", "samples", "outcomes")
    }
    for mine, swept in tables.values():
        times = [column for column in mine if column.endswith("_s")]
        pd.testing.assert_frame_equal(mine.drop(columns=times), swept.drop(columns=times))
    last = tables["evals"][0].iloc[-1]
    line = said.splitlines()[-1]
    # batches 0 to 3 are 0, 1, 1 and 1 updates stale
    assert line.startswith(
        f"online_dpo lag(1) seed 0: win rate {last['win_rate']:.4f}, KL {last['kl_nats']:.2f} nats"
    )
    assert "staleness 0.75 (mean) 1 (maximum) optimiser steps" in line
    assert line.endswith(f"in {directory}/*/{run_id}.parquet")
    assert sorted(wandb_files.runs(directory.parent)[run_id]["rows"]) == [0, 1, 2, 3, 4]
    row = store.read(directory, "runs").iloc[0]
    assert (row["preset"], row["source"], row["threads"]) == ("smoke", "inline", 1)
    assert json.loads(row["config_json"]) == config.cell()


@pytest.mark.slow
def test_a_killed_rank_ends_the_others_and_the_run_goes_on_without_it(mine, tmp_path):
    shutil.copytree(mine[0] / "checkpoints", tmp_path / "checkpoints")
    flags = [
        "--preset", "smoke", "--updates", "40", "--evaluation.every", "40", "--microbatch-rows",
        "4", "--execution.checkpoint-every", "1", "--out", str(tmp_path),
    ]  # fmt: skip
    started = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "bench.train", *flags],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
    )  # fmt: skip
    assert eventually(lambda: list(tmp_path.glob("unfinished/*/step-*")), 120), started.poll()
    ranks = children(started.pid)
    (victim,) = (pid for pid in ranks if "RANK=1" in environment(pid))
    os.kill(victim, signal.SIGKILL)
    killed_at = time.monotonic()
    said, _ = started.communicate(timeout=60)
    assert time.monotonic() - killed_at < 10
    assert started.returncode != 0, said
    assert not any(runs(pid) for pid in ranks)
    (saved,) = tmp_path.glob("unfinished/*/step-*")
    before = json.loads((saved / "state.json").read_text())["records"]["steps"]
    assert 1 <= len(before) < 40

    assert train.main(flags) == 0
    steps = store.read(tmp_path, "steps")
    assert list(steps["step"]) == list(range(40))
    # The first updates are those of the two ranks, with their times.
    assert list(steps["learn_s"])[: len(before)] == [row["learn_s"] for row in before]


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environment(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")
