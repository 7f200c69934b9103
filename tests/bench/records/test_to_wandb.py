import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import get_args

import pandas as pd
import pytest
from rich.console import Console

from bench.records import store, to_wandb
from tests.bench import fakes

ROOT = Path(__file__).parents[3]


def test_history_is_by_updates_done():
    steps = pd.DataFrame(
        {"run_id": "a", "step": [0, 1], "loss": [0.5, 0.25], "metrics": [{"kl": 0.1}, {}]}
    )
    evals = pd.DataFrame({"run_id": "a", "step": [0, 2], "win_rate": [0.5, 0.75],
                          "kl_nats": [float("nan"), 2.0]})  # fmt: skip
    assert to_wandb.history(steps, evals) == {
        0: {"eval/win_rate": 0.5},
        1: {"train/loss": 0.5, "train/kl": 0.1},
        2: {"train/loss": 0.25, "eval/win_rate": 0.75, "eval/kl_nats": 2.0},
    }


def send(place, **environment):
    """Send the results in ``place`` from a process of its own, as wandb wants one."""
    pytest.importorskip("wandb")
    command = [sys.executable, "-m", "bench.records.to_wandb", str(place / "results")]
    return subprocess.run(
        command, cwd=place, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def write_without_numbers(results, run):
    nothing = fakes.result(run, "diverged")
    nothing.steps, nothing.evals = [], []
    return store.write_run(
        results, run, nothing, preset="smoke", weights_digest="0123456789ab",
        provenance=fakes.PROVENANCE,
    )  # fmt: skip


def test_runs_are_written_under_their_own_ids_when_offline(tmp_path):
    ids = [
        fakes.write(tmp_path / "results", fakes.config(seed=0)),
        write_without_numbers(tmp_path / "results", fakes.config(seed=1)),
    ]
    done = send(tmp_path, WANDB_MODE="offline")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"2 runs of {tmp_path}/results are in project async-rlhf-bench" in done.stdout
    written = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert sorted(name.split("-", 3)[3] for name in written) == sorted(ids)


class Sent(list):
    """The rows that are logged for a run."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def log(self, row, step):
        self.append((step, row))


def test_each_run_is_sent_with_its_own_numbers(tmp_path, monkeypatch):
    sent = {}
    wandb = ModuleType("wandb")
    wandb.__spec__ = ModuleSpec("wandb", None)
    wandb.Settings = dict
    wandb.errors = SimpleNamespace(Error=OSError)
    wandb.init = lambda **options: sent.setdefault(options["id"], Sent())
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    runs = [fakes.config(seed=seed) for seed in (2, 0, 1)]
    ids = [fakes.write(tmp_path, run) for run in runs]
    none = write_without_numbers(tmp_path, fakes.config(seed=3))
    assert to_wandb.send(tmp_path, "project", Console(file=StringIO())) == 4
    assert sent[none] == []
    for run, run_id in zip(runs, ids, strict=True):
        expected = fakes.result(run)
        losses = {step: row["train/loss"] for step, row in sent[run_id] if step > 0}
        assert losses == {one.step + 1: one.loss for one in expected.steps}
        wins = {step: row["eval/win_rate"] for step, row in sent[run_id] if "eval/win_rate" in row}
        assert wins == {e.step: e.win_rate for e in expected.evals}


def test_a_mode_that_wandb_does_not_know_is_one_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    fakes.write(tmp_path, fakes.config())
    monkeypatch.setenv("WANDB_MODE", "of line")
    assert to_wandb.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "error: WANDB_MODE = 'of line': allowed are "
        "online, offline, shared, disabled, dryrun, run\n"
    )


def test_the_modes_are_those_of_wandb():
    wandb = pytest.importorskip("wandb")
    assert get_args(wandb.Settings.model_fields["mode"].annotation) == to_wandb.MODES


def test_what_wandb_refuses_is_one_line(tmp_path):
    fakes.write(tmp_path / "results", fakes.config())
    done = send(tmp_path, WANDB_MODE="online", WANDB_API_KEY="short")
    assert done.returncode == 2
    assert done.stderr == (
        "error: wandb: WANDB_API_KEY invalid: API key must have 40+ characters, has 5.\n"
    )


def test_no_results_is_one_line(tmp_path, capsys):
    assert to_wandb.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: no results in {tmp_path}: neither runs/ nor runs.parquet\n"
    )
