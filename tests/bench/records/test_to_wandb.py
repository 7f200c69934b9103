import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.records import to_wandb
from tests.bench import fakes

ROOT = Path(__file__).parents[3]


def test_a_mode_that_wandb_does_not_know_is_one_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    fakes.write(tmp_path, fakes.config())
    monkeypatch.setenv("WANDB_MODE", "of line")
    assert to_wandb.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "error: WANDB_MODE = 'of line': allowed are "
        "online, offline, shared, disabled, dryrun, run\n"
    )


def test_what_wandb_refuses_is_one_line(tmp_path):
    fakes.write(tmp_path / "results", fakes.config())
    pytest.importorskip("wandb")
    done = subprocess.run(
        [sys.executable, "-m", "bench.records.to_wandb", str(tmp_path / "results")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "online",
             "WANDB_API_KEY": "short"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "error: wandb: WANDB_API_KEY invalid: API key must have 40+ characters, has 5.\n"
    )


def test_no_results_is_one_line(tmp_path, capsys):
    assert to_wandb.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: no results in {tmp_path}: neither runs/ nor runs.parquet\n"
    )
