import json
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from bench.errors import UserError
from bench.experiments.sweep import RunsFailedError, locked, sweep
from bench.records import provenance, store
from bench.records.marker import MARKER
from bench.records.schemas import SCHEMAS
from tests.bench import fakes
from tests.bench.fakes import FakeExecute, config
from tests.bench.live_processes import children, eventually
from tests.bench.live_processes import runs as process_runs

ROOT = Path(__file__).parents[3]


def run(results_dir, configs, *, workers=2, console=None):
    return sweep(
        configs,
        fakes.MODELS,
        results_dir=results_dir,
        preset="smoke",
        workers=workers,
        console=console or Console(file=StringIO()),
        execute=FakeExecute(results_dir),
    )


def executed(results_dir):
    """Return how often each run was begun."""
    names = [path.name.rpartition("-")[0] for path in (results_dir / "executed").iterdir()]
    return {name: names.count(name) for name in names}


def tables(results_dir):
    """Return all tables without times."""
    frames = {table: store.read(results_dir, table) for table in SCHEMAS}
    timed = ("wall_s", "wait_s", "generate_s", "score_s", "learn_s", "publish_s", "evaluate_s",
             "start_s", "end_s")  # fmt: skip
    return {
        table: frame.drop(columns=[*timed, "started_utc"], errors="ignore")
        for table, frame in frames.items()
    }


def assert_same(left, right):
    for table, frame in tables(left).items():
        pd.testing.assert_frame_equal(frame, tables(right)[table])


def test_sweep_does_each_run_once_and_only_what_is_missing(tmp_path):
    first = run(tmp_path, [config(seed=0), config(n=2, seed=0), config(seed=0)])
    assert first == [config(seed=0).run_id("0123456789ab"), config(n=2).run_id("0123456789ab")]
    both = run(tmp_path, [config(seed=0), config(seed=1)])
    assert store.read(tmp_path, "runs")["run_id"].tolist() == sorted({*first, *both})
    assert executed(tmp_path) == dict.fromkeys({*first, *both}, 1)


def test_sweep_tables_do_not_depend_on_order_or_workers(tmp_path):
    cells = [config(n=n, seed=seed) for n in (1, 2, 4) for seed in (0, 1)]
    run(tmp_path / "a", cells, workers=3)
    run(tmp_path / "b", cells[::-1], workers=1)
    assert_same(tmp_path / "a", tmp_path / "b")


def test_sweep_goes_on_past_a_failing_cell_and_names_it(tmp_path):
    cells = [config("raises"), config(seed=0), config(seed=1)]
    run_id = cells[0].run_id("0123456789ab")
    with pytest.raises(RunsFailedError) as raised:
        run(tmp_path, cells)
    log = tmp_path / "logs" / f"{run_id}.log"
    assert str(raised.value) == (
        "1 of 3 cells failed, the others are done; first: fake raises reuse(1) seed 0: "
        f"RuntimeError: the loss has no opinion ({log})"
    )
    assert "Traceback" in log.read_text()
    assert store.read(tmp_path, "runs")["algorithm"].tolist() == ["rloo", "rloo"]


def test_sweep_records_a_diverged_run_and_goes_on(tmp_path):
    run(tmp_path, [config("diverges"), config()])
    runs = store.read(tmp_path, "runs").set_index("algorithm")
    assert runs["status"].to_dict() == {"diverges": "diverged", "rloo": "completed"}
    assert runs["diverged_at"]["diverges"] == 2


def test_sweep_repeats_a_cell_whose_process_was_killed(tmp_path):
    run(tmp_path, [config("killed_once"), config()])
    assert sorted(store.read(tmp_path, "runs")["algorithm"]) == ["killed_once", "rloo"]
    assert executed(tmp_path)[config("killed_once").run_id("0123456789ab")] == 2


def test_sweep_gives_up_on_a_cell_killed_twice_and_keeps_the_others(tmp_path):
    with pytest.raises(RunsFailedError) as raised:
        run(tmp_path, [config("killed", n=4), config(seed=0), config(seed=1)])
    assert str(raised.value) == (
        "1 of 3 cells failed, the others are done; first: fake killed reuse(4) seed 0: "
        "its process was killed by SIGKILL, 2 times (out of memory? use fewer --workers)"
    )
    assert store.read(tmp_path, "runs")["algorithm"].tolist() == ["rloo", "rloo"]


def test_sweep_stops_at_what_is_not_possible(tmp_path):
    with pytest.raises(UserError, match=r"^algorithm 'refused': allowed are none$"):
        run(tmp_path, [config("refused"), *(config(seed=s) for s in range(5))], workers=1)
    assert executed(tmp_path) == {config("refused").run_id("0123456789ab"): 1}


def test_sweep_stops_at_a_full_disk(tmp_path):
    with pytest.raises(UserError) as raised:
        run(tmp_path, [config("full"), config()], workers=1)
    assert str(raised.value) == (
        f"no space left in {tmp_path} or the temporary directory; finished runs are safe, "
        "free some space and give the same command again"
    )


def test_sweep_reports_a_failing_cell_whose_log_cannot_be_written(tmp_path):
    run_id = config("raises").run_id("0123456789ab")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / f"{run_id}.log").symlink_to("/dev/full")
    with pytest.raises(RunsFailedError, match="RuntimeError: the loss has no opinion"):
        run(tmp_path, [config("raises")])
    assert executed(tmp_path) == {run_id: 1}


def test_sweep_repeats_a_damaged_run_with_a_warning(tmp_path):
    (run_id,) = run(tmp_path, [config()])
    path = tmp_path / "steps" / f"{run_id}.parquet"
    before = tables(tmp_path)["steps"]
    path.write_bytes(path.read_bytes()[:50])
    console = Console(file=StringIO(), width=40)
    run(tmp_path, [config()], console=console)
    assert (
        console.file.getvalue().splitlines()[0]
        == f"warning: {path} is missing or damaged: its run is repeated"
    )
    pd.testing.assert_frame_equal(tables(tmp_path)["steps"], before)


def test_sweep_says_in_the_marker_what_made_its_runs(tmp_path):
    run(tmp_path, [config()])
    (entry,) = json.loads((tmp_path / MARKER).read_text())["runs_made_by"]
    assert entry["weights"] == {"fake fake": "0123456789ab"}
    assert (entry["git_revision"], entry["torch"]) == (
        provenance.code_and_host()["git_revision"],
        provenance.package_version("torch"),
    )
    run(tmp_path, [config(), config(seed=1)])
    assert len(json.loads((tmp_path / MARKER).read_text())["runs_made_by"]) == 1


def test_sweep_keeps_few_logs_and_of_a_long_one_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.experiments.sweep.MOST_LOGS", 3)
    monkeypatch.setattr("bench.experiments.sweep.LOG_BYTES", 10)
    logs = tmp_path / "logs"
    logs.mkdir()
    for at in range(6):
        (logs / f"{at}.log").write_text(f"the log of job {at}")
        os.utime(logs / f"{at}.log", (at, at))
    (logs / "notes.txt").write_text("someone's, and not to be touched")
    run(tmp_path, [config()])
    assert {path.name: path.read_text() for path in logs.iterdir()} == {
        "3.log": "g of job 3", "4.log": "g of job 4", "5.log": "g of job 5",
        "notes.txt": "someone's, and not to be touched",
    }  # fmt: skip
    with pytest.raises(RunsFailedError) as raised:
        run(tmp_path, [config("raises", seed=seed) for seed in range(6)], workers=1)
    assert len(list(logs.glob("*.log"))) in (3, 4)
    assert Path(str(raised.value).rpartition("(")[2].rstrip(")")).exists()


def test_sweep_without_workers_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^workers = 0: must be at least 1$"):
        run(tmp_path, [config()], workers=0)


def test_sweep_keeps_a_runs_checkpoint_until_its_tables_are_written(tmp_path):
    run_id = config().run_id("0123456789ab")
    checkpoint = tmp_path / "unfinished" / run_id / "step-00000002"
    checkpoint.mkdir(parents=True)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f".{run_id}.parquet.tmp").symlink_to("/dev/full")  # answers with ENOSPC
    with pytest.raises(UserError, match="no space left to write"):
        run(tmp_path, [config()])
    assert checkpoint.exists()
    run(tmp_path, [config()])
    assert not checkpoint.parent.exists()
    assert checkpoint.parent.parent.exists()


def test_sweep_needs_no_worker_that_can_write_its_tables(tmp_path):
    """Nothing but the log of what was executed is where the worker is told to write."""
    sweep(
        [config()],
        fakes.MODELS,
        results_dir=tmp_path / "here",
        preset="smoke",
        workers=1,
        console=Console(file=StringIO()),
        execute=FakeExecute(tmp_path / "there"),
    )
    assert len(store.read(tmp_path / "here", "runs")) == 1
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["executed"]


SCRIPT = """
import sys
from pathlib import Path
from rich.console import Console
from bench.experiments.sweep import sweep
from tests.bench.fakes import MODELS, FakeExecute, config

results_dir = Path(sys.argv[1])
cells = [config(n=n, seed=seed) for n in (1, 2, 4) for seed in (0, 1)]
sweep(cells, MODELS, results_dir=results_dir, preset="smoke", workers=2,
      console=Console(width=120), execute=FakeExecute(results_dir, float(sys.argv[2])))
"""


def start(results_dir, update_s):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(results_dir), str(update_s)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_a_killed_sweep_leaves_no_process_and_continues_to_the_same_tables(tmp_path):
    run(tmp_path / "whole", [config(n=n, seed=seed) for n in (1, 2, 4) for seed in (0, 1)])

    process = start(tmp_path / "killed", update_s=0.1)
    assert eventually(
        lambda: len(list((tmp_path / "killed").glob("runs/*.parquet"))) >= 2, within_s=240.0
    )
    workers = children(process.pid)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert eventually(lambda: not any(map(process_runs, workers)), within_s=20.0)
    done = len(list((tmp_path / "killed").glob("runs/*.parquet")))
    assert 2 <= done < 6

    again = start(tmp_path / "killed", update_s=0.0)
    output, errors = again.communicate(timeout=240)
    assert (again.returncode, errors) == (0, "")
    assert output.splitlines()[0] == f"{done} of 6 cells are already done"
    assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_workers_die_with_their_parent_in_the_middle_of_an_update(tmp_path):
    process = start(tmp_path, update_s=600.0)
    assert eventually(lambda: len(list(tmp_path.glob("executed/*"))) == 2, within_s=240.0)
    workers = children(process.pid)
    process.kill()
    assert eventually(lambda: not any(map(process_runs, workers)), within_s=20.0)
    process.communicate()


def test_locked_refuses_a_second_sweep_in_the_same_directory(tmp_path):
    with locked(tmp_path):
        with pytest.raises(UserError) as raised, locked(tmp_path):
            pass
        assert str(raised.value) == (
            f"another sweep is running in {tmp_path}; wait for it or choose another --out"
        )
    with locked(tmp_path):
        pass
