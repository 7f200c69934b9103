"""Looking at processes of this machine."""

import time
from collections.abc import Callable
from pathlib import Path


def runs(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def children(pid: int) -> list[int]:
    """Return the ids of a process's living children and of theirs."""
    found, parents = [], {pid}
    for path in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) in parents and state != "Z":
            parents.add(int(path.name))
            found.append(int(path.name))
    return found


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Return whether a condition comes true in time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
