"""Every script for real, at smoke scale: models are trained, runs are killed and resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.experiments import arms as timing
from bench.records import store
from bench.records.schemas import SCHEMAS
from bench.throughput import table as throughput
from reproductions.all import discover
from tests.bench import wandb_files
from tests.bench.experiments.test_sweep import assert_same
from tests.bench.live_processes import children, eventually
from tests.bench.live_processes import runs as process_runs

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def command(script, *arguments):
    return [sys.executable, f"reproductions/{script}.py", "--preset", "smoke", *map(str, arguments)]


def run(script, *arguments, **environment):
    """Run a script to its end."""
    return subprocess.run(
        command(script, *arguments),
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Run everything from nothing; return the results directory and what was printed."""
    results = tmp_path_factory.mktemp("smoke") / "results"
    done = run("all", "--fresh", "--out", results)
    assert (done.returncode, done.stderr) == (0, "")
    return results, done.stdout


def with_checkpoints(smoke, target):
    """Return an empty results directory that has the SFT and reward models."""
    shutil.copytree(smoke[0] / "checkpoints", target / "checkpoints")
    return target


def test_all_makes_every_figure_and_table_and_runs_shared_runs_once(smoke):
    results, output = smoke
    names = [one.name for one in discover()]
    assert names == [
        "fig_chatbot", "fig_early_warning", "fig_generation_bound", "fig_learning_rate",
        "fig_modern_losses", "fig_offpolicy_ppo", "fig_offpolicy_robustness", "fig_old_logprobs",
        "fig_overoptimisation", "fig_scaling", "fig_schedule", "fig_staleness_kinds",
        "fig_sync_vs_async", "fig_throughput", "fig_training_bound", "table_chatbot", "table_math",
        "table_sft", "ablation_lr_schedule",
    ]  # fmt: skip
    for one in discover():
        if one.draw is not None:
            assert (results / "figures" / f"{one.name}.png").stat().st_size > 10_000
            assert (results / "figures" / f"{one.name}.svg").exists()
    # 4 algorithms x N in {1, 4} x 2 seeds, 2 x N = 4 x 2 seeds per round, 1 for the SFT table,
    # 4 algorithms pushed in 2 ways x 2 seeds; 3 T and 4 arms of K, one of them the same, x 2 seeds;
    # 2 further old log-probs of 2 losses and 3 losses without a clip, x N x 2 seeds; 2 losses at 6
    # rates with lag 1, one of them that of T = 1, x 2 seeds;
    # GRPO at N = 1 and, with and without a correction, at N = 4 and lag 2, x 2 seeds; RLOO with
    # lag 2, on all and in 2 ways without what is old, x 2 seeds; 3 losses on maths, one of them
    # with lag 1 too, x 2 seeds
    assert "[123/123]" in output
    assert "[129/129]" in output  # 3 timed arms x 2 seeds, in three figures and a table
    runs = store.read(results, "runs")
    assert len(runs) == 16 + 4 + 1 + 16 + 12 + 28 + 22 + 10 + 6 + 8 + 6
    assert set(runs["status"]) == {"completed"}
    threads = runs.groupby("timed", dropna=False)["threads"].unique().map(list).to_dict()
    cores = timing.available_cores()
    half = (cores + 1) // 2
    assert threads.pop("whole") == [cores]
    assert (threads.pop("split"), threads.pop("overlapped")) == ([half], [half])
    assert list(threads.values()) == [[1]]
    assert output.count("no verdicts") == 19
    traces = json.loads((results / "figures" / "fig_schedule_split.trace.json").read_text())
    assert {event["args"].get("name") for event in traces["traceEvents"][:2]} == {
        "engine", "learner",
    }  # fmt: skip
    steps = store.read(results, "steps").merge(runs[["run_id", "schedule"]], on="run_id")
    stale = steps[steps["schedule"] == "reuse(4)"]
    assert (stale["staleness"] == stale["step"] % 4).all()


def test_the_throughput_is_measured(smoke):
    results, output = smoke
    found = throughput.read(results / "throughput")
    assert set(found["preset"]) == set(found["model"]) == {"smoke"}
    assert set(found["benchmark"]) == {
        "diagnostics",
        "generation",
        "handoff",
        "learner_step",
        "score",
        "update",
    }
    assert f"Figure: {results}/figures/fig_throughput.png" in output


def test_a_second_time_nothing_is_run(smoke):
    results, _ = smoke
    before = {path: path.stat().st_mtime_ns for path in results.glob("*/*-s*.parquet")}
    done = run("fig_offpolicy_ppo", "--out", results)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "4 of 4 cells are already done"
    assert before == {path: path.stat().st_mtime_ns for path in results.glob("*/*-s*.parquet")}


def test_replot_needs_neither_torch_nor_transformers(smoke, tmp_path):
    results, _ = smoke
    for name in ("torch", "transformers", "huggingface_hub"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('{name} was imported')")
    done = run("all", "--replot", "--out", results, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Data: {results} (8 of 8 cells, 16 runs)" in done.stdout


def test_a_sweep_killed_in_the_middle_continues_to_the_same_tables(smoke, tmp_path):
    results = with_checkpoints(smoke, tmp_path / "killed")
    arguments = command("fig_offpolicy_robustness", "--out", results, "--workers", 2)
    process = subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert eventually(lambda: len(list(results.glob("runs/*.parquet"))) >= 2, within_s=300.0)
    workers = children(process.pid)
    process.kill()
    process.wait()
    assert eventually(lambda: not any(map(process_runs, workers)), within_s=20.0)
    done = len(list(results.glob("runs/*.parquet")))
    assert 2 <= done < 16

    again = run("fig_offpolicy_robustness", "--out", results)
    assert again.returncode == 0
    assert again.stdout.splitlines()[0] == f"{done} of 16 cells are already done"

    # The same runs of the undisturbed sweep, with other runs between them: the same numbers.
    whole = tmp_path / "whole"
    for run_id in store.read(results, "runs")["run_id"]:
        for table in SCHEMAS:
            (whole / table).mkdir(parents=True, exist_ok=True)
            shutil.copy(smoke[0] / table / f"{run_id}.parquet", whole / table)
    assert_same(whole, results)


def test_interrupting_a_sweep_says_how_to_go_on(smoke, tmp_path):
    results = with_checkpoints(smoke, tmp_path / "results")
    process = subprocess.Popen(
        command("fig_offpolicy_robustness", "--out", results),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert eventually(lambda: list(results.glob("runs/*.parquet")), within_s=300.0)
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors == (
        "stopped; what was finished is kept, the same command (without --fresh) goes on\n"
    )
    assert eventually(lambda: not any(map(process_runs, workers)), within_s=20.0)


def test_a_full_disk_ends_with_one_line_and_keeps_the_rest(smoke, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(smoke[0], results)
    run_id = store.read(results, "runs").query("algorithm == 'ppo'")["run_id"].iloc[0]
    path = results / "runs" / f"{run_id}.parquet"
    path.unlink()
    path.with_name(f".{path.name}.tmp").symlink_to("/dev/full")  # answers writes with ENOSPC
    done = run("all", "--out", results)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: no space left to write {path}; finished runs are safe, "
        "free some space and give the same command again\n"
    )
    assert len(store.read(results, "runs")) == 128


def test_the_same_seed_gives_the_same_metrics_to_the_bit(smoke, tmp_path):
    results = with_checkpoints(smoke, tmp_path / "results")
    done = run("fig_offpolicy_ppo", "--out", results, "--n", "4", "--seeds", "1,",
               "--wandb", "offline", WANDB_DIR=str(tmp_path))  # fmt: skip
    assert done.returncode == 0
    (run_id,) = store.read(results, "runs")["run_id"]
    for table in ("evals", "steps"):
        mine, first = (store.read(place, table, [run_id]) for place in (results, smoke[0]))
        numbers = [c for c in mine.columns if not c.endswith("_s")]
        pd.testing.assert_frame_equal(mine[numbers], first[numbers], check_exact=True)
    written = wandb_files.runs(tmp_path)
    assert sorted(written) == sorted([run_id, "fig_offpolicy_ppo-smoke"])
    assert sorted(written[run_id]["rows"]) == [0, 1, 2, 3, 4]  # updates done
