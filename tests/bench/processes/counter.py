"""Something to host in a worker, quick to import."""

import os
import signal
import subprocess
import sys
import tempfile
import time


class Counter:
    """Something to call in a worker."""

    def __init__(self, start: int = 0, fail: str = "") -> None:
        if fail == "raise":
            raise ValueError("no model by that name\nat all")
        if fail == "exit":
            print("something else")  # must not come after what is printed later
            sys.exit("the loader gave up")
        if fail == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self._total = start

    def add(self, value: int) -> int:
        self._total += value
        return self._total

    def boom(self, error: Exception) -> None:
        raise error

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def settings(self) -> dict[str, object]:
        return {
            "threads": os.environ["OMP_NUM_THREADS"],
            "cores": sorted(os.sched_getaffinity(0)),
            "torch": "torch" in sys.modules,
        }

    def temporary(self) -> str:
        """Make a directory as libraries do for the time until the program ends; return it."""
        return tempfile.mkdtemp()

    def gpus(self) -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    def cuda_uuids(self) -> list[str]:
        import torch

        devices = range(torch.cuda.device_count())
        return [str(torch.cuda.get_device_properties(i).uuid) for i in devices]

    def child(self) -> int:
        """Start a process of its own that would outlive it; return its id."""
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]).pid

    def fork(self) -> int:
        """Start one that also holds the pipe to the parent open; return its id."""
        child = os.fork()
        if child == 0:
            time.sleep(3600)
            os._exit(0)
        return child
