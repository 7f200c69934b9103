"""The processes of a command and of all that it starts, whoever their parent is by now."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.processes.shared_memory import PREFIX

MARK = "ASYNC_RLHF_STORM"  # an environment variable, which all processes inherit
POLL_S = 0.05
PROGRAM = b"run_worker_process"  # in the command line of every worker

MAIN, TRAINER, WORKER, ENGINE, HELPER = "main", "stage trainer", "pool worker", "engine", "helper"


@dataclass(frozen=True)
class Process:
    """A process and what it is: one of the kinds above."""

    pid: int
    kind: str


class Watch:
    """Finds the processes that have a mark in their environment, in ``/proc``."""

    def __init__(self, mark: str) -> None:
        """Watch for a mark."""
        self.first_seen_s: dict[str, float] = {}  # by kind
        self.run_directories: set[Path] = set()  # that any of them had open
        self.mark = mark
        self._entry = f"{MARK}={mark}".encode()
        self._kinds: dict[int, str] = {}
        self._main = 0
        self._checkpoints = Path()

    def start(self, main: int, checkpoints: Path) -> None:
        """Watch a new command; until there is a reward model its workers train models."""
        self._main, self._checkpoints = main, checkpoints
        self.first_seen_s.clear()
        self._kinds.clear()

    def look(self) -> list[Process]:
        """Return the processes that are alive."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            pid = int(path.name)
            with suppress(OSError):
                if not self._marked(pid):
                    continue
                process = Process(pid, self._kind(pid))
                self.first_seen_s.setdefault(process.kind, time.monotonic())
                found.append(process)
                for link in (path / "fd").iterdir():
                    with suppress(OSError):
                        target = link.readlink()
                        if target.name.startswith(PREFIX):
                            self.run_directories.add(target)
        return found

    def has_threads(self, process: Process) -> bool:
        """Return whether a process has started a thread."""
        return len(list(Path(f"/proc/{process.pid}/task").glob("*"))) > 1

    def send(self, process: Process, number: signal.Signals) -> bool:
        """Send a signal; return whether the process was there to get it."""
        with suppress(OSError):
            descriptor = os.pidfd_open(process.pid)
            try:
                if self._marked(process.pid):  # the id is not another's by now
                    signal.pidfd_send_signal(descriptor, number)
                    return True
            finally:
                os.close(descriptor)
        return False

    def wait_until_gone(self, limit_s: float) -> list[Process]:
        """Wait until no process is alive; return those that are when the time is over."""
        end = time.monotonic() + limit_s
        while (left := self.look()) and time.monotonic() < end:
            time.sleep(POLL_S)
        return left

    def kill_all(self) -> None:
        """Leave nobody alive."""
        while left := self.look():
            for process in left:
                self.send(process, signal.SIGKILL)
            time.sleep(POLL_S)

    def _marked(self, pid: int) -> bool:
        return self._entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")

    def _kind(self, pid: int) -> str:
        """Return what a process is, as its parent tells while it has one."""
        if pid == self._main:
            return MAIN
        if pid not in self._kinds:
            if PROGRAM not in Path(f"/proc/{pid}/cmdline").read_bytes():
                return HELPER  # or one that is about to become a worker
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if self._kinds.get(parent) == WORKER:
                self._kinds[pid] = ENGINE
            else:
                training = not any(self._checkpoints.glob("reward-*/provenance.json"))
                self._kinds[pid] = TRAINER if training else WORKER
        return self._kinds[pid]
