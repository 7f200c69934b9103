"""Jobs for the workers of a pool, quick to import."""

import atexit
import errno
import fcntl
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from bench.errors import UserError
from bench.processes.pool import Job


def job(what: str, name: str = "job") -> Job:
    return Job(f"label of {name}", name, 2, what)


class Unreadable:
    """Cannot be unpickled in the worker."""

    def __reduce__(self):
        return os.rename, ("/no/such/file", "/no/such/file either")


def execute(job: Job, on_progress, *directories: Path) -> object:
    """Report twice and return the worker's id and directories, unless told otherwise."""
    on_progress(1, 0.25)
    match job.payload:
        case "warn":
            on_progress(1, 0.25, "the checkpoint was damaged")
        case "raise":
            raise RuntimeError("no opinion\nand a second line")
        case "full":
            raise RuntimeError(f"cannot write:\n{os.strerror(errno.ENOSPC)}")
        case "refuse":
            raise UserError("algorithm 'x': allowed are y")
        case "exit":
            print("what it printed")
            sys.exit("the job gave up")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hang":
            time.sleep(3600)
        case "unpicklable":
            return threading.Lock()
        case "settings":
            names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM")
            return [os.environ[name] for name in names]
        case "leave":
            directory = tempfile.mkdtemp()
            atexit.register(os.rmdir, directory)
            return directory
    on_progress(2, 0.5)
    return os.getpid(), directories


def hold_gpus(directory: Path, job: Job, on_progress) -> tuple[int, str]:
    """Lock each GPU for a moment; return the worker's id and its GPUs.

    Raises:
        BlockingIOError: another job holds one.
    """
    on_progress(1, 0.25)
    seen = os.environ["CUDA_VISIBLE_DEVICES"]
    with ExitStack() as stack:
        for gpu in seen.split(","):
            file = stack.enter_context((directory / gpu).open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.3)
        if job.payload == "kill" and not (directory / "killed").exists():
            (directory / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), seen
