"""Directories in shared memory that are gone when their run is. Imports no torch."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "async-rlhf-bench-"
SHARED_MEMORY = Path("/dev/shm")
# Reads until the other end of its pipe is closed, by ``close`` or by the system.
REAPER = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


class RunDirectory:
    """A new directory, removed by ``close``, or when this process is killed.

    A process of its own waits for the end of this one. Should both be killed: a lock on the
    directory, which the system gives up with the process, tells the next run that it was abandoned.
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
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", REAPER, self.path],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is not for it
        )

    def close(self) -> None:
        """Remove the directory; may be called twice."""
        self._reaper.communicate()
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked_directory(root: Path) -> tuple[Path, int | None]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        # Between the two lines another run may take it for abandoned: then there is no such path.
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if path.exists():
                return path, descriptor
            os.close(descriptor)


def _remove_if_abandoned(path: Path) -> None:
    with suppress(OSError):  # locked: its run is alive; not found: removed meanwhile
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(descriptor)
