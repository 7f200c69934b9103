"""A damaged checkpoint is named, removed and done without: never another result, never an error."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UserError
from bench.learning import checkpoint
from bench.staleness import lag

from .. import runs

CONFIG = replace(runs.config(lag(2)), updates=4)
LATEST = "step-00000003"
FILES = [
    "checksums.json",
    "learner.safetensors",
    "snapshot-1.safetensors",
    "snapshot-2.safetensors",
    "snapshot-3.safetensors",
    "state.json",
]


class Interrupted(Exception):
    pass


def interrupted(directory, at):
    """Interrupt a run, so that its last checkpoint is of update ``at``."""

    def interrupt(progress):
        if progress.step == at:
            raise Interrupted

    run, _ = runs.run(CONFIG, runs.inline(CONFIG))
    with pytest.raises(Interrupted):
        run.execute(interrupt, directory)


def resumed(directory):
    """Return the outcome of the run, what it warned of, and the updates that were done."""
    run, learner = runs.run(CONFIG, runs.inline(CONFIG))
    reports = []
    result = run.execute(reports.append, directory)
    warnings = [report.warning for report in reports if report.warning]
    done = [report.step for report in reports if not report.warning]
    return runs.outcome(result, learner), warnings, done


@pytest.fixture(scope="module")
def expected():
    return runs.undisturbed(CONFIG)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return the directory of an interrupted run."""
    directory = tmp_path_factory.mktemp("run")
    interrupted(directory, 3)
    return directory


@pytest.fixture
def directory(sound, tmp_path):
    """Return a copy of it, to be damaged."""
    return shutil.copytree(sound, tmp_path / "run")


def test_a_checkpoint_is_these_files_and_is_taken_without_a_warning(directory, expected):
    assert sorted(path.name for path in (directory / LATEST).iterdir()) == FILES
    assert resumed(directory) == (expected, [], [4])


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(FILES),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.none() | st.integers(0, 7),
)
def test_a_flipped_bit_or_a_cut_anywhere_ends_in_the_undisturbed_result(
    sound, expected, tmp_path_factory, name, place, bit
):
    """``place`` is a fraction of the file; without a ``bit`` the file ends there."""
    directory = shutil.copytree(sound, tmp_path_factory.mktemp("damaged") / "run")
    path = directory / LATEST / name
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if bit is None:
        del content[at:]
    else:
        content[at] ^= 1 << bit
    path.write_bytes(content)
    outcome, warnings, done = resumed(directory)
    assert outcome == expected
    if name == "checksums.json" and bit is not None and not warnings:
        assert json.loads(content) == json.loads((sound / LATEST / name).read_text())  # blanks
    else:
        (line,) = warnings
        assert line.startswith(f"checkpoint {directory / LATEST}: ")
        assert line.endswith("; removed, its updates are done again")
        assert "\n" not in line
        assert done == [1, 2, 3, 4]
    shutil.rmtree(directory.parent)


def without(name):
    return lambda path: (path / name).unlink()


def with_text(name, text):
    return lambda path: (path / name).write_text(text)


def empty(path):
    for file in path.iterdir():
        file.unlink()


def with_empty_files(path):
    for file in path.iterdir():
        file.write_bytes(b"")


def other_format(path):
    manifest = json.loads((path / "checksums.json").read_text())
    (path / "checksums.json").write_text(json.dumps({**manifest, "format": 1}))


def as_a_file(path):
    shutil.rmtree(path)
    path.write_text("not a directory")


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (without("learner.safetensors"), "learner.safetensors is missing"),
        (without("snapshot-2.safetensors"), "snapshot-2.safetensors is missing"),
        (without("checksums.json"), "checksums.json: No such file or directory"),
        (with_text("snapshot-9.safetensors", ""), "snapshot-9.safetensors is unknown"),
        (with_text("state.json", "{}"), "state.json is damaged"),
        (with_text("checksums.json", "[]"), "checksums.json is damaged"),
        (empty, "checksums.json: No such file or directory"),
        (with_empty_files, "checksums.json is damaged"),
        (other_format, "has format 1, this suite reads 3"),
        (as_a_file, "checksums.json: Not a directory"),
    ],
)
def test_the_warning_says_what_is_damaged(directory, expected, damage, what):
    damage(directory / LATEST)
    line = f"checkpoint {directory / LATEST}: {what}; removed, its updates are done again"
    assert resumed(directory) == (expected, [line], [1, 2, 3, 4])


def test_an_older_checkpoint_is_taken_if_there_is_one(directory, expected, tmp_path):
    interrupted(tmp_path / "older", 2)
    shutil.copytree(tmp_path / "older" / "step-00000002", directory / "step-00000002")
    (directory / LATEST / "state.json").unlink()
    line = (
        f"checkpoint {directory / LATEST}: state.json is missing; removed, its updates are done "
        "again"
    )
    assert resumed(directory) == (expected, [line], [3, 4])


def changed(state, name, tensor):
    """Return a state dict with another tensor of this name, or without it."""
    kept = {key: value for key, value in state.items() if key != name}
    return kept if tensor is None else {**kept, name: tensor}


@pytest.mark.parametrize(
    ("name", "tensor", "what"),
    [
        ("parameters.3", None, "tensor parameters.3 is missing"),
        ("parameters.3", torch.zeros(1), "tensor parameters.3 has shape (1,), the model (16,)"),
        ("parameters.99", torch.zeros(1), "tensor parameters.99 is unknown"),
        ("optimizer.3.exp_avg", None, "tensor optimizer.3.exp_avg is missing"),
        (
            "optimizer.3.exp_avg_sq",
            torch.zeros(1),
            "tensor optimizer.3.exp_avg_sq has shape (1,), the model (16,)",
        ),
        (
            "optimizer.3.step",
            torch.zeros(1),
            "tensor optimizer.3.step has shape (1,), the model ()",
        ),
        ("optimizer.99.step", torch.zeros(()), "tensor optimizer.99.step is unknown"),
        ("momentum", torch.zeros(1), "tensor momentum is unknown"),
    ],
)
def test_a_learner_of_another_shape_is_not_taken(directory, expected, name, tensor, what):
    saved = checkpoint.load_latest(directory, lambda _: None, pytest.fail)
    learner = changed(saved.learner, name, tensor)
    shutil.rmtree(directory)
    checkpoint.save(directory, replace(saved, learner=learner))
    line = f"checkpoint {directory / LATEST}: learner: {what}; removed, its updates are done again"
    assert resumed(directory) == (expected, [line], [1, 2, 3, 4])


NORM = "gpt_neox.final_layer_norm.weight"


@pytest.mark.parametrize(
    ("tensor", "what"), [(None, "is missing"), (torch.zeros(1), "has shape (1,), the model (16,)")]
)
def test_a_snapshot_of_another_shape_is_not_taken(directory, expected, tensor, what):
    saved = checkpoint.load_latest(directory, lambda _: None, pytest.fail)
    first, *others = saved.snapshots
    other = replace(first, state=changed(first.state, NORM, tensor))
    shutil.rmtree(directory)
    checkpoint.save(directory, replace(saved, snapshots=[other, *others]))
    line = (
        f"checkpoint {directory / LATEST}: snapshot 1: tensor {NORM} {what}; removed, its updates "
        "are done again"
    )
    assert resumed(directory) == (expected, [line], [1, 2, 3, 4])


def test_what_cannot_be_removed_is_one_clear_line(directory, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    (directory / LATEST / "state.json").unlink()
    monkeypatch.setattr(shutil, "rmtree", denied)
    with pytest.raises(UserError) as raised:
        resumed(directory)
    assert str(raised.value) == (
        f"cannot remove the checkpoint {directory / LATEST}: Permission denied"
    )


def test_files_and_names_are_on_the_disk_before_a_checkpoint_gets_its_name(tmp_path, monkeypatch):
    flushed = []

    def fsync(descriptor):
        path = tmp_path.joinpath(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append(str(path.relative_to(tmp_path)))

    monkeypatch.setattr("os.fsync", fsync)
    interrupted(tmp_path / "run", 1)
    temporary = "run/.step-00000001.tmp"
    names = ["checksums.json", "learner.safetensors", "snapshot-0.safetensors",
             "snapshot-1.safetensors", "state.json"]  # fmt: skip
    assert sorted(flushed[:-2]) == [f"{temporary}/{name}" for name in names]
    assert flushed[-2:] == [temporary, "run"]
