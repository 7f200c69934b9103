"""Directories that travel to other machines through Ray's object store."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
from numpy.typing import NDArray

CACHE = Path.home() / ".cache" / "async-rlhf-bench"

Content = NDArray[np.uint8]  # of a file; not copied when it is read from the object store


@dataclass(frozen=True)
class Parcel:
    """The files of a directory, without its subdirectories."""

    path: Path  # on the machine that it comes from
    digest: str  # of names and contents
    files: dict[str, ray.ObjectRef[Content]]

    @staticmethod
    def of(path: Path) -> Parcel:
        """Put a directory into the object store, which keeps it as long as the parcel exists."""
        return Parcel(path, digest(path), {file.name: put(file) for file in _files(path)})

    def unpack(self) -> Path:
        """Return a directory of this machine with the same contents."""
        cached = CACHE / self.digest
        for place in (self.path, cached):
            if place.is_dir() and digest(place) == self.digest:
                return place
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=CACHE) as temporary:
            built = Path(temporary) / self.digest
            built.mkdir()
            for name, ref in self.files.items():
                ray.get(ref).tofile(built / name)
            if cached.exists():  # and damaged, as was seen above
                cached.rename(Path(temporary) / "damaged")
            with suppress(OSError):  # another process was faster
                built.rename(cached)
        return cached


def put(file: Path) -> ray.ObjectRef[Content]:
    """Put a file into the object store."""
    return ray.put(np.fromfile(file, np.uint8))


def digest(directory: Path) -> str:
    """Return 32 hex digits of the names and contents of a directory's files."""
    found = hashlib.sha256()
    for file in _files(directory):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        found.update(f"{file.name} {content};".encode())
    return found.hexdigest()[:32]


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_file())
