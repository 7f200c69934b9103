"""Where an interrupted run goes on: weights, optimiser, snapshots still needed and records so far.

Randomness is keyed by what it is for (``bench.randomness``), so the step is all the random state
there is. Tensors are safetensors, the rest is JSON; nothing is pickled. ``checksums.json`` has a
hash of every other file: a checkpoint is either what was saved, to the bit, or damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.errors import UserError
from bench.types import EvalRecord, Outcome, Records, Sample, Span, StepRecord, WeightSnapshot

FORMAT = 3
CHECKSUMS = "checksums.json"


class DamagedError(ValueError):
    """A checkpoint is not what was saved, or not of this model."""


@dataclass(frozen=True)
class Checkpoint:
    """A run between two updates."""

    step: int  # updates done
    learner: Mapping[str, Tensor]
    snapshots: list[WeightSnapshot]
    records: Records


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then remove the one before it.

    Its files are on the disk before it gets its name, so that not even a power cut leaves a
    damaged one.

    Raises:
        UserError: it cannot be written.
    """
    final = directory / f"step-{checkpoint.step:08d}"
    temporary = directory / f".{final.name}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(dict(checkpoint.learner), temporary / "learner.safetensors")
        for snapshot in checkpoint.snapshots:
            state = {name: value.contiguous() for name, value in snapshot.state.items()}
            save_file(state, temporary / f"snapshot-{snapshot.policy_version}.safetensors")
        progress = {"step": checkpoint.step, "records": asdict(checkpoint.records)}
        (temporary / "state.json").write_text(json.dumps(progress))
        checksums = {path.name: _checksum(path) for path in sorted(temporary.iterdir())}
        manifest = {"format": FORMAT, "xxh3_128": checksums}
        (temporary / CHECKSUMS).write_text(json.dumps(manifest, indent=2))
        for path in (*temporary.iterdir(), temporary):
            _flush(path)
        temporary.rename(final)
        _flush(directory)
    except OSError as error:
        raise UserError(f"cannot write the checkpoint {final}: {error.strerror}") from error
    for older in _found(directory)[:-1]:
        _remove(older)


def load_latest(
    directory: Path, check: Callable[[Checkpoint], None], warn: Callable[[str], None]
) -> Checkpoint | None:
    """Return the run's last checkpoint that can be used, or None if it has none.

    Those that are damaged are removed.

    Args:
        directory: of the run.
        check: raises ``DamagedError`` for a checkpoint of another model.
        warn: called with a line on each checkpoint that is removed.

    Raises:
        UserError: a damaged checkpoint cannot be removed.
    """
    for path in reversed(_found(directory)):
        try:
            checkpoint = _load(path)
            check(checkpoint)
        except DamagedError as error:
            _remove(path)
            warn(f"checkpoint {path}: {error}; removed, its updates are done again")
        else:
            return checkpoint
    return None


def check_tensors(owner: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors that do not have the names and shapes of others.

    Args:
        owner: whose they are, for the message.
        found: those of a checkpoint.
        expected: those of the model.

    Raises:
        DamagedError: names one that is missing, unknown or of another shape.
    """
    if differing := sorted(found.keys() ^ expected.keys()):
        what = "is unknown" if differing[0] in found else "is missing"
        raise DamagedError(f"{owner}: tensor {differing[0]} {what}")
    for name, tensor in found.items():
        shape, allowed = tuple(tensor.shape), tuple(expected[name].shape)
        if shape != allowed:
            raise DamagedError(f"{owner}: tensor {name} has shape {shape}, the model {allowed}")


def _load(path: Path) -> Checkpoint:
    """Read a checkpoint; raise ``DamagedError`` if it is not what was saved."""
    try:
        _check_files(path)
        state: dict[str, Any] = json.loads((path / "state.json").read_text())
        records = state["records"]
        return Checkpoint(
            step=state["step"],
            learner=load_file(path / "learner.safetensors"),
            snapshots=sorted(
                (
                    WeightSnapshot(int(file.stem.partition("-")[2]), load_file(file))
                    for file in path.glob("snapshot-*.safetensors")
                ),
                key=lambda snapshot: snapshot.policy_version,
            ),
            records=Records(
                steps=[StepRecord(**row) for row in records["steps"]],
                evals=[EvalRecord(**row) for row in records["evals"]],
                samples=[Sample(**row) for row in records["samples"]],
                outcomes=[Outcome(**row) for row in records["outcomes"]],
                spans=[Span(**row) for row in records["spans"]],
                wall_s=records["wall_s"],
            ),
        )
    except OSError as error:
        raise DamagedError(f"{Path(error.filename or path).name}: {error.strerror}") from error
    except (SafetensorError, ValueError, LookupError, TypeError) as error:
        raise DamagedError(str(error).splitlines()[0]) from error  # records of another version


def _check_files(path: Path) -> None:
    """Compare the files of a checkpoint with what its ``checksums.json`` says of them."""
    try:
        manifest = json.loads((path / CHECKSUMS).read_text())
        version, checksums = manifest["format"], dict(manifest["xxh3_128"])
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedError(f"{CHECKSUMS} is damaged") from error
    if version != FORMAT:
        raise DamagedError(f"has format {version!r}, this suite reads {FORMAT}")
    if differing := sorted({file.name for file in path.iterdir()} ^ {CHECKSUMS, *checksums}):
        what = "is missing" if differing[0] in checksums else "is unknown"
        raise DamagedError(f"{differing[0]} {what}")
    for name, checksum in checksums.items():
        if _checksum(path / name) != checksum:
            raise DamagedError(f"{name} is damaged")


def _checksum(path: Path) -> str:
    """Return 32 hex digits of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _flush(path: Path) -> None:
    """Have a file, or the names in a directory, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise UserError(f"cannot remove the checkpoint {path}: {error.strerror}") from error


def _found(directory: Path) -> list[Path]:
    return sorted(directory.glob("step-*"))
