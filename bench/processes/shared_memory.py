"""Directories, in shared memory if wanted, that do not outlive their run. Imports no torch."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "async-rlhf-bench-"
SHARED_MEMORY = Path("/dev/shm")


class RunDirectory:
    """A new directory, removed by ``close``.

    If this process is killed, its ``LocalWorker`` removes the directory that it was given as
    ``run_directory``. If nobody is left to do it, the next run does. A lock on the directory tells
    the next run which directories are in use: the system releases it when this process ends.
    """

    def __init__(self, root: Path | None = None) -> None:
        """Make the directory and remove those that dead runs left.

        Args:
            root: where; None: shared memory, or the temporary directory where there is none.
        """
        if root is None:
            usable = os.access(SHARED_MEMORY, os.W_OK)
            root = SHARED_MEMORY if usable else Path(tempfile.gettempdir())
        for path in root.glob(f"{PREFIX}*"):
            _remove_if_abandoned(path)
        self.path, self._lock = _locked_directory(root)

    def close(self) -> None:
        """Remove the directory; may be called twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked_directory(root: Path) -> tuple[Path, int | None]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        # Before it is locked, another run may take it for abandoned and remove it.
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if path.exists():
                return path, descriptor
            os.close(descriptor)


def _remove_if_abandoned(path: Path) -> None:
    # Anybody may have made the path: opening a FIFO would block, a link may lead anywhere.
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(OSError):  # locked: its run is alive; not found: another run removed it
        descriptor = os.open(path, flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(descriptor)
