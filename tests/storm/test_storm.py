"""A minute of the storm, and that it sees what it looks for."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.records import store
from tests.bench import fakes

from . import storm
from .comparison import changed_numbers
from .processes import Watch
from .scenarios import Reference, Sandbox, Scenario, choose
from .tally import Tally, markdown

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks in /proc")
SEED = 22  # hits all three kinds of process; an engine is stopped as the main one is killed


@pytest.mark.slow
def test_a_minute_of_signals_changes_no_number_and_leaves_nothing(tmp_path):
    one = storm.Storm(choose(["overlapped"]), tmp_path, SEED)
    one.prepare()
    one.round(0)
    assert one.tally.lines == []
    assert one.tally.strikes.total() >= 1


def results(directory, **change):
    """Write a run, with another value in its last evaluation where one is given."""
    run_id = fakes.write(directory, fakes.config())
    frame = store.read(directory, "evals")
    for name, value in change.items():
        frame.loc[len(frame) - 1, name] = value
    store.write_table(directory / "evals" / f"{run_id}.parquet", "evals", frame.to_dict("records"))
    return directory


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 0),
        ({"wall_s": 1.0, "evaluate_s": 2.0}, 0),
        ({"win_rate": 0.7999999999999999}, 1),
        ({"kl_nats": -0.0, "reward_mean": -0.0}, 2),
    ],
)
def test_every_changed_number_is_seen(tmp_path, change, count):
    reference = Reference(SLEEPER, results(tmp_path / "a"), 1.0, frozenset())
    assert changed_numbers(reference, results(tmp_path / "b", **change)) == count


def test_a_missing_row_is_seen(tmp_path):
    reference = Reference(SLEEPER, results(tmp_path / "a"), 1.0, frozenset())
    path = next((results(tmp_path / "b") / "samples").iterdir())
    store.write_table(path, "samples", [])
    assert changed_numbers(reference, tmp_path / "b") == 9  # run_id and eight more of one sample


SLEEPER = Scenario("sleeper", ("-c", "pass"), ("main",))
ORPHAN = "import subprocess, sys; subprocess.Popen(['sleep', '600'], start_new_session=True)"
FILES = (
    "import os, sys, pathlib; out = pathlib.Path(sys.argv[-1]); "
    "(out / '.runs.tmp').touch(); (out / 'unfinished/x-s0').mkdir(parents=True); "
    "pathlib.Path(os.environ['TMPDIR'], 'tmpx').touch()"
)


@pytest.mark.parametrize(
    ("program", "faults"),
    [
        ("pass", {}),
        (ORPHAN, {"orphans": 1}),
        (FILES, {"files left": 3}),
        ("import time; time.sleep(600)", {"waits too long": 1}),
        ("raise SystemExit(1)", {"wrong endings": 1}),
        ("import sys; sys.exit(print('Traceback', file=sys.stderr))", {"wrong endings": 1}),
    ],
)
def test_every_fault_is_seen(tmp_path, monkeypatch, program, faults):
    monkeypatch.setattr(storm, "ENDS_S", 0.5)
    monkeypatch.setattr(storm, "STARTS_S", 2.0)
    scenario = Scenario("x", ("-c", program), ("main",))
    reference = Reference(scenario, results(tmp_path / "reference"), 0.0, frozenset())
    sandbox = Sandbox(scenario, tmp_path / "x", None)
    results(sandbox.results)
    tally = Tally()
    storm.Round(sandbox, reference, "round", tally).run([])
    assert dict(tally.faults) == faults
    assert len(tally.lines) == sum(faults.values())


def test_what_a_dead_process_started_is_found_and_killed():
    watch = Watch("test")
    parent = subprocess.Popen(
        [sys.executable, "-c", f"{ORPHAN}; import time; time.sleep(600)"],
        env={"ASYNC_RLHF_STORM": "test"},
    )
    watch.start(parent.pid, Path())
    end = time.monotonic() + 30
    while len(found := watch.look()) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert sorted(one.kind for one in found) == ["helper", "main"]
    parent.kill()
    parent.wait()
    assert [one.kind for one in watch.look()] == ["helper"]
    watch.kill_all()
    assert watch.look() == []


def test_the_report_is_a_markdown_table():
    tally = Tally()
    tally.strikes["engine", "SIGKILL"] = 12
    tally.fault("orphans", "round 3", 2)
    rows = [line.split() for line in markdown(tally.strike_rows()).splitlines()]
    assert rows[2] == ["|", "SIGKILL", "|", "0", "|", "0", "|", "12", "|", "0", "|", "12", "|"]
    assert markdown(tally.fault_rows()) == (
        "| fault           | count |\n"
        "| --------------- | ----- |\n"
        "| changed numbers | 0     |\n"
        "| orphans         | 2     |\n"
        "| files left      | 0     |\n"
        "| waits too long  | 0     |\n"
        "| wrong endings   | 0     |"
    )
