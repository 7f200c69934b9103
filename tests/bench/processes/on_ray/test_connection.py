"""Reaching a cluster, and bad input: one line, status 2, nothing left running."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.processes.on_ray import connection

from ...live_processes import eventually

ROOT = Path(__file__).parents[4]
SCRIPT = "reproductions/fig_offpolicy_ppo.py"


@pytest.fixture
def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return port


def script(*arguments, **environment):
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(connection, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"^Ray is not installed: install the extra \[ray\]$"):
        connection.connect("auto")


@pytest.mark.parametrize("address", ["nonsense", "ray://head:10001", "head:", ":6379"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UserError, match=r"allowed are auto and HOST:PORT$"):
        connection._reach(address)


def test_an_address_that_nobody_listens_at_is_one_line_and_status_2(tmp_path, closed_port):
    start = time.monotonic()
    done = script("--preset", "smoke", "--ray", f"127.0.0.1:{closed_port}", "--out", tmp_path)
    assert time.monotonic() - start < 60  # Ray alone would try for minutes
    assert done.returncode == 2
    assert done.stderr == (
        f"error: no Ray cluster can be reached at 127.0.0.1:{closed_port}: [Errno 111] Connection "
        "refused\n"
    )
    assert not (tmp_path / "checkpoints").exists()  # before any work


def test_a_listener_that_is_no_cluster_is_found_out(monkeypatch):
    monkeypatch.setattr(connection, "ANSWER_S", 3.0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"listens at {address} does not answer as a Ray"):
            connection._make_sure_it_answers(address, has_token=True)


def test_more_gpus_than_there_are_is_one_line_and_status_2(tmp_path, cluster):
    done = script("--preset", "small", "--ray", cluster, "--out", tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "error: a run asks for 1 CPUs and 1 GPUs, no machine of the Ray cluster has as many "
        "(they have 1 CPUs, 0 GPUs)\n",
    )


def test_there_is_room_for_as_many_as_fit_on_each_machine(cluster):  # noqa: ARG001
    # Two machines with one CPU each and no GPU.
    assert connection.slots(cpus=1, gpus=0) == 2
    assert connection.slots(cpus=2, gpus=0) == 0
    assert connection.slots(cpus=1, gpus=1) == 0
    connection.require_room("a run", cpus=1, gpus=0)


def test_auto_is_the_cluster_that_runs(cluster):
    assert connection._found_here() == cluster


def test_auto_overlooks_a_cluster_that_is_no_more(tmp_path, monkeypatch, closed_port):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert connection._found_here() is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{closed_port}")
    assert connection._found_here() is None


def test_auto_trusts_no_file_of_another_user(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    file = tmp_path / "ray" / "ray_current_cluster"
    file.parent.mkdir()
    file.write_text("127.0.0.1:6379")
    if os.getuid() == 0:
        os.chown(file, 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(UserError, match=f"^{file}: names a Ray cluster of another user; give"):
        connection._found_here()


@pytest.mark.slow
def test_auto_without_a_cluster_starts_one_and_leaves_nothing_running(
    tmp_path, ray_directory, smoke
):
    shutil.copytree(smoke.sft_dir.parent, tmp_path / "checkpoints")
    own = ray_directory / "own"
    own.mkdir()
    done = script(
        "--preset", "smoke", "--seeds", "1", "--n", "1", "--workers", "1", "--ray", "auto",
        "--out", tmp_path, RAY_TMPDIR=str(own),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "[1/1]" in done.stdout
    assert (own / "ray").exists()  # there was one
    assert eventually(lambda: not mentioning(str(own)))


def mentioning(text):
    """Return the processes whose command lines have a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] * (text.encode() in path.read_bytes())
        except OSError:
            continue
    return found
