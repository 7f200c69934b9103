"""Weights from the learner to an engine in another process of the same machine.

A snapshot is a safetensors file in a directory of shared memory, written under a temporary name,
then renamed: whoever finds it finds all of it. Both sides compute a checksum, the learner of what
it wrote, the engine of what it has loaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.errors import UserError
from bench.processes.shared_memory import RunDirectory
from bench.types import WeightSnapshot


class HandoffError(RuntimeError):
    """The engine's weights are not the learner's."""


def checksum(state: Mapping[str, Tensor]) -> str:
    """Return 32 hex digits of names, shapes, types and bytes, whatever the order and device."""
    digest = xxhash.xxh3_128()
    for name in sorted(state):
        tensor = state[name].detach().contiguous().cpu()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Handoff:
    """The learner's side: a directory of this run's snapshots, removed by ``close``."""

    def __init__(self, root: Path | None = None, dtype: torch.dtype = torch.float32) -> None:
        """Make the directory and remove those that dead runs left.

        Args:
            root: where; None: shared memory, or the temporary directory where there is none.
            dtype: the engine's; weights are converted before they are written.
        """
        self._dtype = dtype
        self._held = RunDirectory(root)
        self.directory = self._held.path

    def write(self, snapshot: WeightSnapshot) -> str:
        """Make a snapshot available and return its checksum.

        Raises:
            UserError: there is not enough space.
        """
        state = {name: self._converted(value) for name, value in snapshot.state.items()}
        needed = sum(value.nbytes for value in state.values())
        free = shutil.disk_usage(self.directory).free
        if needed > free:
            raise UserError(
                f"no space for a weight snapshot in {self.directory.parent}: it takes "
                f"{needed / 1e6:.0f} MB and {free / 1e6:.0f} MB are free"
            )
        path = _path(self.directory, snapshot.policy_version)
        temporary = path.with_suffix(".tmp")
        save_file(state, temporary)
        temporary.rename(path)
        return checksum(state)

    def _converted(self, value: Tensor) -> Tensor:
        dtype = self._dtype if value.is_floating_point() else value.dtype
        return value.to("cpu", dtype).contiguous()

    def read(self, policy_version: int) -> WeightSnapshot:
        """Return a snapshot that was written and not dropped."""
        return read(self.directory, policy_version)

    def versions(self) -> list[int]:
        """Return the versions that are kept, oldest first."""
        return versions(self.directory)

    def drop_before(self, policy_version: int) -> None:
        """Remove older snapshots."""
        for version in self.versions():
            if version < policy_version:
                _path(self.directory, version).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the directory; may be called twice."""
        self._held.close()


def read(directory: Path, policy_version: int) -> WeightSnapshot:
    """Return a snapshot; its tensors are views of the file, valid also after its removal.

    Raises:
        FileNotFoundError: it was never written, or dropped.
    """
    return WeightSnapshot(policy_version, load_file(_path(directory, policy_version)))


def versions(directory: Path) -> list[int]:
    """Return the versions in a directory, oldest first."""
    return sorted(int(path.stem) for path in directory.glob("*.safetensors"))


def _path(directory: Path, policy_version: int) -> Path:
    return directory / f"{policy_version:08d}.safetensors"
