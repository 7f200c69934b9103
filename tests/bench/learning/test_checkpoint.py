import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.errors import UserError
from bench.learning import checkpoint
from bench.learning.checkpoint import Checkpoint
from bench.staleness import ON_POLICY, lag, reuse
from bench.types import Records

from .. import runs
from ..hosts import snapshot
from ..live_processes import eventually
from ..live_processes import runs as process_runs


def some(step):
    state = {"parameters.0": torch.tensor([0.1, float(step)])}
    records = Records([], [], [], [], [], wall_s=0.1 + step)
    return Checkpoint(step, state, [snapshot(step), snapshot(step + 10)], records)


def latest(directory):
    """Return the last checkpoint, where none may be damaged."""
    return checkpoint.load_latest(directory, lambda _: None, pytest.fail)


def test_the_latest_checkpoint_is_read_back_and_older_ones_are_removed(tmp_path):
    assert latest(tmp_path / "nothing") is None
    for step in (9, 100):
        checkpoint.save(tmp_path, some(step))
    found = latest(tmp_path)
    assert found.step == 100
    assert torch.equal(found.learner["parameters.0"], torch.tensor([0.1, 100.0]))
    assert [kept.policy_version for kept in found.snapshots] == [100, 110]
    assert found.snapshots[1].state["w"].tolist() == [110.0] * 3
    assert found.records.wall_s == 100.1
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000100"]


def test_a_checkpoint_that_was_being_written_is_ignored(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, some(1))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"cannot write the checkpoint .*: No space left"):
        checkpoint.save(tmp_path, some(2))
    monkeypatch.undo()
    assert latest(tmp_path).step == 1


def test_nothing_is_pickled(tmp_path):
    checkpoint.save(tmp_path, some(1))
    suffixes = {path.suffix for path in (tmp_path / "step-00000001").iterdir()}
    assert suffixes == {".json", ".safetensors"}


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(
    ("schedule", "algorithm"),
    [(ON_POLICY, "online_dpo"), (reuse(4), "ppo"), (lag(3), "online_dpo")],
    ids=str,
)
def test_a_run_interrupted_anywhere_ends_as_if_it_had_not_been(tmp_path, schedule, algorithm):
    config = runs.config(schedule, algorithm=algorithm)
    expected = runs.undisturbed(config)
    for at in range(1, runs.UPDATES + 1):
        directory = tmp_path / str(at)

        def interrupt(progress, at=at):
            if progress.step == at:
                raise Interrupted

        run, _ = runs.run(config, runs.inline(config))
        with pytest.raises(Interrupted):
            run.execute(interrupt, directory, checkpoint_every=2)
        run, learner = runs.run(config, runs.inline(config))
        done = []
        result = run.execute(lambda p, done=done: done.append(p.step), directory, 2)
        assert done == list(range(at // 2 * 2 + 1, runs.UPDATES + 1))  # from the last checkpoint
        assert runs.outcome(result, learner) == expected


LEARNER = """
import sys
from pathlib import Path
from bench.staleness import lag
from tests.bench import runs
runs.killed(runs.config(lag(2)), Path(sys.argv[1]), Path(sys.argv[2]), every=2, at=5)
"""


def test_a_killed_learner_leaves_nothing_and_its_run_is_resumed_bit_for_bit(tmp_path):
    runs.policy().save_pretrained(tmp_path / "model")
    learner = subprocess.run(
        [sys.executable, "-c", LEARNER, str(tmp_path / "model"), str(tmp_path / "checkpoints")],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
    )
    assert learner.returncode == -9
    engine, directory = learner.stdout.split()
    assert eventually(lambda: not process_runs(int(engine)))
    assert eventually(lambda: not Path(directory).exists())

    config = runs.config(lag(2))
    run, resumed = runs.run(config, runs.inline(config))
    result = run.execute(None, tmp_path / "checkpoints")
    assert runs.outcome(result, resumed) == runs.undisturbed(config)
    assert [s.step for s in result.spans if s.name == "learn"] == list(range(runs.UPDATES))
