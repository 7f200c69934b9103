import os
import subprocess
import sys
from collections import namedtuple

import pytest
import torch

from bench.errors import UserError
from bench.processes.shared_memory import PREFIX
from bench.sources import handoff
from bench.sources.handoff import Handoff, checksum
from bench.types import WeightSnapshot
from tests.bench.live_processes import eventually

STATE = {
    "a": torch.tensor([[1.0, -2.0], [0.1, 4.0]]),
    "b": torch.tensor([3], dtype=torch.int64),
    "t": torch.arange(6.0).reshape(2, 3).t(),  # not contiguous
}


@pytest.fixture
def hand(tmp_path):
    with_close = Handoff(tmp_path)
    yield with_close
    with_close.close()


def test_what_is_read_is_what_was_written(hand):
    hand.write(WeightSnapshot(7, STATE))
    found = handoff.read(hand.directory, 7)
    assert found.policy_version == 7
    assert found.state.keys() == STATE.keys()
    for name, value in STATE.items():
        assert found.state[name].dtype == value.dtype
        assert torch.equal(found.state[name], value)


def test_the_checksum_written_is_that_of_what_is_read(hand):
    assert hand.write(WeightSnapshot(0, STATE)) == checksum(handoff.read(hand.directory, 0).state)


def test_weights_travel_in_the_engines_type(tmp_path):
    hand = Handoff(tmp_path, torch.bfloat16)
    written = hand.write(WeightSnapshot(0, STATE))
    found = hand.read(0).state
    # 0.1 in bfloat16 is 0.10009765625; integers are left alone.
    assert found["a"].tolist() == [[1.0, -2.0], [0.10009765625, 4.0]]
    assert found["b"].dtype == torch.int64
    assert written == checksum(found) != checksum(STATE)
    hand.close()


def test_the_checksum_sees_every_change():
    reordered = dict(reversed(STATE.items()))
    assert checksum(reordered) == checksum(STATE)
    swapped = STATE["a"].flip(0)
    last_bit = torch.nextafter(STATE["a"], torch.tensor(9.0))
    changed = [
        STATE | {"a": swapped},
        STATE | {"a": last_bit},
        STATE | {"a": STATE["a"].reshape(4)},
        STATE | {"a": STATE["a"].view(torch.int32)},
        {"z" if name == "a" else name: value for name, value in STATE.items()},
        {name: value for name, value in STATE.items() if name != "b"},
    ]
    assert len({checksum(state) for state in [STATE, *changed]}) == 7


def test_only_the_snapshots_asked_for_are_kept(hand):
    for version in (3, 20, 100):
        hand.write(WeightSnapshot(version, STATE))
    assert hand.versions() == [3, 20, 100]
    old = hand.read(3)
    hand.drop_before(20)
    assert hand.versions() == [20, 100]
    assert torch.equal(old.state["a"], STATE["a"])  # what is mapped stays readable
    with pytest.raises(FileNotFoundError):
        hand.read(3)


def test_a_snapshot_being_written_is_not_seen(hand, monkeypatch):
    seen = []
    save = handoff.save_file

    def spy(state, path):
        save(state, path)
        seen.append(hand.versions())

    monkeypatch.setattr(handoff, "save_file", spy)
    hand.write(WeightSnapshot(1, STATE))
    assert seen == [[]]
    assert hand.versions() == [1]


def test_too_little_space_is_one_clear_line(hand, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(handoff.shutil, "disk_usage", lambda _: usage(10))
    with pytest.raises(UserError, match=r"no space for a weight snapshot in .*: it takes 0 MB"):
        hand.write(WeightSnapshot(1, STATE))


def test_closing_removes_the_directory_and_may_be_repeated(hand):
    hand.write(WeightSnapshot(0, STATE))
    hand.close()
    hand.close()
    assert not hand.directory.exists()


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from bench.processes.local import LocalWorker
from bench.sources.handoff import Handoff
from bench.types import WeightSnapshot
from tests.bench.processes.counter import Counter
hand = Handoff(Path(sys.argv[1]))
hand.write(WeightSnapshot(0, {"w": torch.ones(3)}))
engine = LocalWorker(Counter, run_directory=hand.directory)
if "engine too" in sys.argv:
    os.kill(engine.pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_run(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])}
    command = [sys.executable, "-c", KILLED, *map(str, arguments)]
    assert subprocess.run(command, env=environment, check=False).returncode == -9


def test_the_engine_of_a_killed_learner_removes_what_the_run_had(tmp_path):
    kill_a_run(tmp_path)
    assert eventually(lambda: not any(tmp_path.iterdir()))


def test_what_a_killed_run_left_is_removed_by_the_next_and_a_live_run_is_spared(tmp_path, hand):
    hand.write(WeightSnapshot(0, STATE))
    kill_a_run(tmp_path, "engine too")
    left = set(tmp_path.glob(f"{PREFIX}*")) - {hand.directory}
    assert len(left) == 1
    (tmp_path / "of something else").mkdir()

    after = Handoff(tmp_path)
    expected = {hand.directory, after.directory, tmp_path / "of something else"}
    assert set(tmp_path.iterdir()) == expected
    assert hand.versions() == [0]
    after.close()
