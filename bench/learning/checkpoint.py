"""Where an interrupted run goes on: weights, optimiser, snapshots still needed and records so far.

Randomness is keyed by what it is for (``bench.randomness``), so the step is all the random state
there is. Tensors are safetensors, the rest is JSON; nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.errors import UserError
from bench.types import EvalRecord, Records, Sample, Span, StepRecord, WeightSnapshot

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A run between two updates."""

    step: int  # updates done
    learner: Mapping[str, Tensor]
    snapshots: list[WeightSnapshot]
    records: Records


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then remove the one before it.

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
        records = asdict(checkpoint.records)
        progress = {"format": FORMAT, "step": checkpoint.step, "records": records}
        (temporary / "state.json").write_text(json.dumps(progress))
        temporary.rename(final)
    except OSError as error:
        raise UserError(f"cannot write the checkpoint {final}: {error.strerror}") from error
    for older in _found(directory)[:-1]:
        shutil.rmtree(older)


def load_latest(directory: Path) -> Checkpoint | None:
    """Return the run's last checkpoint, or None if it has none.

    Raises:
        UserError: it cannot be read.
    """
    found = _found(directory)
    if not found:
        return None
    path = found[-1]
    try:
        state: dict[str, Any] = json.loads((path / "state.json").read_text())
        if state["format"] != FORMAT:
            raise ValueError(f"format {state['format']}, this suite reads {FORMAT}")
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
                spans=[Span(**row) for row in records["spans"]],
                wall_s=records["wall_s"],
            ),
        )
    except Exception as error:  # of JSON, of safetensors, of records of another version
        raise UserError(f"cannot read the checkpoint {path}: {error}; delete it") from error


def _found(directory: Path) -> list[Path]:
    return sorted(directory.glob("step-*"))
