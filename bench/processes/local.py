"""Workers in new processes of this machine. Imports no torch."""

from __future__ import annotations

import ctypes
import os
import pickle
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

from bench.errors import UserError
from bench.processes.devices import Gpus, environment
from bench.processes.shared_memory import RunDirectory
from bench.processes.worker import LIVENESS_S, WorkerDiedError, WorkerError

KILL_S = 5.0  # for the system to end a process that was sent SIGKILL
LOG_TAIL_BYTES = 4000
PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)
LOG_BYTES = 16 * 2**20  # of output on disk, of which only the end is ever read
STOP = b""  # in place of a call
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}  # output is in the file in the order of the prints


class LocalWorker:
    """A worker in a new process; see ``bench.processes.worker.Worker``.

    Example:
        >>> worker = LocalWorker(partial(Counter, start=3), threads=1)
        >>> worker.submit("add", 4).result(timeout=10)
        7
        >>> worker.close()
    """

    def __init__(
        self,
        factory: Callable[[], object],
        *,
        name: str = "worker",
        threads: int = 1,
        cores: Collection[int] | None = None,
        gpus: Gpus = (),
        run_directory: Path | None = None,
    ) -> None:
        """Start the process and return at once.

        Args:
            factory: picklable; called once in the worker, builds the object.
            name: for messages.
            threads: compute threads.
            cores: the cores it may run on, where the system lets one choose; None: as the parent.
            gpus: the only ones it sees; none: as the parent.
            run_directory: a directory of the parent, which the worker removes if the parent dies.
        """
        self.ready: Future[None] = Future()
        self.ready.set_running_or_notify_cancel()
        self._name = name
        self._lock = threading.Lock()
        self._death: str | None = None  # how the process ended
        self._output = ""  # the end of what it printed
        self._waiting: deque[Future[Any]] = deque([self.ready])
        self._calls: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._connection, theirs = Pipe()
        # Of its own, since what libraries put there stays when a process is killed.
        self._temporary = RunDirectory(Path(tempfile.gettempdir()))
        leaves = [self._temporary.path, *([] if run_directory is None else [run_directory])]
        # No name on disk: it is only read if the worker dies.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-c", _program(theirs.fileno(), cores, leaves)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                **_thread_settings(threads),
                **environment(gpus),
                **UNBUFFERED,
                # Where the parent would look for a Ray cluster, not in the worker's own directory.
                "RAY_TMPDIR": os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(),
                "TMPDIR": str(self._temporary.path),
            },
            start_new_session=True,  # Ctrl-C is the parent's; one signal reaches its children too
        )
        theirs.close()  # so that the worker's death is seen as the end of the pipe
        self._calls.put(pickle.dumps(factory))
        self._threads = [
            threading.Thread(target=loop, daemon=True)
            for loop in (self._send_calls, self._receive_answers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def submit(self, method: str, *args: object) -> Future[Any]:
        """Call a method of the object; see ``Worker.submit``."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # cannot be cancelled
        call = pickle.dumps((method, args))
        with self._lock:
            if self._death is None:
                self._waiting.append(future)
                self._calls.put(call)
                return future
        future.set_exception(WorkerDiedError(self._death, self._output))
        return future

    def sync(self) -> None:
        """Do nothing: worker and parent share the directory."""

    def close(self, grace_s: float = 5.0) -> None:
        """End the process, by force if it is not done after ``grace_s``. May be called twice."""
        if grace_s > 0:
            self._calls.put(STOP)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        self._kill()
        for thread in self._threads:
            thread.join(KILL_S)
        self._connection.close()

    def _send_calls(self) -> None:
        """Write calls to the pipe; in a thread, since a busy worker reads late."""
        while (call := self._calls.get()) is not None:
            with suppress(OSError):  # it died: ``_receive_answers`` sees it
                self._connection.send_bytes(call)

    def _receive_answers(self) -> None:
        """Settle futures, in order, until the process ends."""
        with suppress(EOFError, OSError):
            while True:
                if os.fstat(self._log.fileno()).st_size > LOG_BYTES:
                    end = f"{_tail(self._log)}\n".encode()
                    os.ftruncate(self._log.fileno(), 0)
                    os.lseek(self._log.fileno(), 0, os.SEEK_SET)  # the worker's position, too
                    os.write(self._log.fileno(), end)
                if self._connection.poll(LIVENESS_S):
                    answer = self._connection.recv_bytes()
                    _settle(self._waiting.popleft(), answer)
                elif not self.alive:  # its children may hold the pipe open
                    break
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LIVENESS_S)  # it may be about to exit by itself
        self._kill()
        output = _tail(self._log)
        death = f"{self._name} {_ending(self._process.returncode, output)}"
        with self._lock:
            self._output, self._death = output, death
        for future in self._waiting:
            future.set_exception(WorkerDiedError(death, output))
        self._calls.put(None)
        self._log.close()
        self._temporary.close()

    def _kill(self) -> None:
        """Kill the process and the children it started, and wait for it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_S)


def run_worker_process(
    descriptor: int, parent: int, cores: list[int] | None, leaves: list[str]
) -> None:
    """Build the object and answer calls until told to stop: the main program of a worker.

    Args:
        descriptor: of the worker's end of the pipe.
        parent: its process id.
        cores: see ``LocalWorker``.
        leaves: directories to remove if the parent dies.
    """
    if cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # before any library starts threads
    with suppress(AttributeError):  # not on Linux
        # A stopped worker would outlive its parent. Continued, it sees that the parent is dead.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT)
    connection = Connection(descriptor)
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(
        target=_receive_calls, args=(connection, calls, parent, leaves), daemon=True
    ).start()
    try:
        hosted = pickle.loads(calls.get())()
    except Exception as error:  # the boundary of the process: reported, then it ends
        connection.send_bytes(_failure(error))
        sys.exit(1)
    connection.send_bytes(pickle.dumps(("done", None)))
    while (call := calls.get()) != STOP:
        try:
            method, args = pickle.loads(call)
            answer = pickle.dumps(("done", getattr(hosted, method)(*args)), protocol=5)
        except Exception as error:  # the boundary of a call: reported, the next call goes on
            answer = _failure(error)
        connection.send_bytes(answer)
    if hasattr(hosted, "close"):
        hosted.close()
    sys.stdout.flush()
    os._exit(0)  # the usual way out takes vLLM's libraries seconds


def _receive_calls(
    connection: Connection,
    calls: queue.SimpleQueue[bytes],
    parent: int,
    leaves: list[str],
) -> NoReturn:
    """Queue the parent's calls; when the parent is dead, clean up and end the process group."""
    with suppress(EOFError, OSError):
        while True:
            if connection.poll(LIVENESS_S):
                calls.put(connection.recv_bytes())
            elif os.getppid() != parent:
                break
    for directory in leaves:
        shutil.rmtree(directory, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _program(descriptor: int, cores: Collection[int] | None, leaves: Sequence[Path]) -> str:
    """Return the source of a worker's program, which leaves the parent's main module alone."""
    arguments = (
        descriptor,
        os.getpid(),
        sorted(cores) if cores is not None else None,
        [str(path) for path in leaves],
    )
    return (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from bench.processes.local import run_worker_process; run_worker_process(*{arguments})"
    )


def _thread_settings(threads: int) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
    }


def _tail(log: IO[bytes]) -> str:
    start = max(0, os.fstat(log.fileno()).st_size - LOG_TAIL_BYTES)
    return os.pread(log.fileno(), LOG_TAIL_BYTES, start).decode(errors="replace").strip()


def _ending(code: int | None, output: str) -> str:
    if code is None:
        return f"was sent SIGKILL and does not end within {KILL_S:g} s"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"exited with status {code}: {output.rpartition(chr(10))[2] or 'it printed nothing'}"


def _failure(error: Exception) -> bytes:
    kind: Literal["refused", "raised"] = "refused" if isinstance(error, UserError) else "raised"
    first_line = str(error).partition("\n")[0]
    message = first_line if kind == "refused" else f"{type(error).__name__}: {first_line}"
    return pickle.dumps((kind, (message, traceback.format_exc())))


def _settle(future: Future[Any], answer: bytes) -> None:
    try:
        kind, value = pickle.loads(answer)
    except Exception as error:  # the answer's class is not importable here, for one
        future.set_exception(WorkerError(f"unreadable answer: {error}", traceback.format_exc()))
        return
    if kind == "done":
        future.set_result(value)
    elif kind == "refused":
        future.set_exception(UserError(value[0]))
    else:
        future.set_exception(WorkerError(*value))
