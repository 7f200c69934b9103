import os
import threading

import pytest

from bench.processes import shared_memory
from bench.processes.shared_memory import PREFIX, RunDirectory


def make(root):
    directory = RunDirectory(root)
    directory.close()


@pytest.fixture
def others(tmp_path):
    """Return a directory outside the root with something in it."""
    others = tmp_path / "of others"
    others.mkdir()
    (others / "file").touch()
    return others


def test_what_a_dead_run_left_is_removed_and_what_a_live_one_has_is_not(tmp_path):
    (tmp_path / f"{PREFIX}dead").mkdir()
    (tmp_path / f"{PREFIX}dead" / "0.safetensors").touch()
    live = RunDirectory(tmp_path)
    assert list(tmp_path.iterdir()) == [live.path]
    make(tmp_path)
    assert list(tmp_path.iterdir()) == [live.path]
    live.close()
    live.close()
    assert not list(tmp_path.iterdir())


def test_what_is_no_directory_neither_blocks_nor_is_followed(tmp_path, others):
    root = tmp_path / "root"
    root.mkdir()
    os.mkfifo(root / f"{PREFIX}fifo")
    (root / f"{PREFIX}link").symlink_to(others)
    (root / f"{PREFIX}file").touch()
    thread = threading.Thread(target=make, args=(root,), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    names = {path.name.removeprefix(PREFIX) for path in root.iterdir()}
    assert names == {"fifo", "link", "file"}
    assert (others / "file").exists()


def test_it_is_in_shared_memory_unless_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path)
    directory = RunDirectory()
    assert directory.path.parent == tmp_path
    directory.close()
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path / "not there")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = RunDirectory()
    assert directory.path.parent == tmp_path
    directory.close()
