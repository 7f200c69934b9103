"""How commands end: by themselves, and when they are interrupted."""

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.command import end_at_once_when_interrupted, run_command
from bench.errors import RunsFailedError, UserError
from bench.paths import ROOT
from reproductions.fresh import SCRIPTS

GOES_ON = "stopped; what was finished is kept, the same command (without --fresh) goes on\n"
WAIT_S = 60.0


def raises(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("model 'x': allowed are y"), 2, "error: model 'x': allowed are y\n"),
        (RunsFailedError("1 of 2 cells failed"), 1, "error: 1 of 2 cells failed\n"),
        (KeyboardInterrupt(), 130, GOES_ON),
    ],
)
def test_an_error_is_one_line_and_a_status(capsys, error, status, line):
    assert run_command(raises(error)) == status
    assert capsys.readouterr() == ("", line)


def test_a_defect_is_raised():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("library", [KeyboardInterrupt, RuntimeError, UserError])
def test_an_interruption_is_one_whatever_a_library_makes_of_it(
    capsys, monkeypatch, number, status, library
):
    monkeypatch.setattr("bench.command._is_own_command", lambda: True)
    as_they_were = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    end_at_once_when_interrupted()

    def command():
        try:
            os.kill(os.getpid(), number)
            time.sleep(WAIT_S)
        except KeyboardInterrupt as error:
            raise library("Error calling __set_name__") from error

    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    assert run_command(command) == status
    assert capsys.readouterr() == ("", GOES_ON)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    for one, old in zip((signal.SIGINT, signal.SIGTERM), as_they_were, strict=True):
        signal.signal(one, old)


def test_a_program_that_calls_a_command_keeps_its_signals():
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    within = []
    run_command(lambda: within.extend(map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))))
    assert within == before


def test_a_command_can_run_in_any_thread():
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(run_command(lambda: None)))
    thread.start()
    thread.join(WAIT_S)
    assert statuses == [0]


def catches_sigterm(pid):
    """Return whether a process handles SIGTERM: Python by itself does not."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) & 1 << signal.SIGTERM - 1)


COMMANDS = [
    ["reproductions/fig_offpolicy_robustness.py"],
    ["reproductions/all.py"],
    ["-m", "bench.train"],
    ["-m", "bench.tuning", "--algorithms", "ppo"],
]


@pytest.fixture
def start():
    """Return a function that starts a command, which does not outlive the test."""
    started = []

    def popen(arguments, results, *path):
        process = subprocess.Popen(
            [sys.executable, *arguments, "--preset", "smoke", "--out", str(results)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        process.kill()
        process.communicate()


def wait_until(condition):
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
SWALLOWS = """
import pathlib, time
pathlib.Path(__file__).with_name("imported").touch()
try:
    time.sleep(600)
except BaseException:
    time.sleep(600)
"""


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_library_cannot_swallow_an_interruption_of_its_import(
    start, tmp_path, arguments, number, status
):
    for library in ("matplotlib", "numpy", "pandas", "pyarrow", "rich", "torch", "tyro"):
        (tmp_path / library).mkdir()
        (tmp_path / library / "__init__.py").write_text(SWALLOWS)
    process = start(arguments, tmp_path / "results", tmp_path)
    wait_until(lambda: any(tmp_path.glob("*/imported")))
    os.killpg(process.pid, number)
    assert process.communicate(timeout=WAIT_S) == ("", "stopped\n")
    assert process.returncode == status


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks in /proc")
@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("after_s", [0.1, 0.3, 0.6, 1.0, 1.5])
def test_an_interruption_in_the_first_seconds_is_one_line(start, tmp_path, number, status, after_s):
    process = start(COMMANDS[round(after_s * 10) % len(COMMANDS)], tmp_path)
    wait_until(lambda: catches_sigterm(process.pid))
    time.sleep(after_s)
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, output) == (status, "")
    assert errors in ("stopped\n", GOES_ON)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("arguments", [COMMANDS[0], COMMANDS[2]])
def test_an_interruption_of_what_runs_says_how_to_go_on(start, tmp_path, arguments, number, status):
    process = start(arguments, tmp_path)
    wait_until((tmp_path / "logs").exists)  # workers are about to start
    os.killpg(process.pid, number)
    assert process.communicate(timeout=WAIT_S) == ("", GOES_ON)
    assert process.returncode == status


def test_every_script_can_be_interrupted_from_its_first_import_on():
    folder = ROOT / "reproductions"
    for path in [folder / "all.py", *(one for kind in SCRIPTS for one in folder.glob(kind))]:
        body = ast.parse(path.read_text()).body
        imports = [one for one in body if isinstance(one, ast.Import | ast.ImportFrom)]
        assert ast.unparse(imports[1]) == "import bench", path.name  # after __future__


@pytest.mark.parametrize("program", ["import bench", "import bench.command, reproductions.run"])
def test_a_program_that_imports_the_suite_keeps_its_signals(program):
    asked = f"{program}; import signal; print(signal.getsignal(2), int(signal.getsignal(15)))"
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "<built-in function default_int_handler> 0\n"
