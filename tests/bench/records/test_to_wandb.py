import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

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
