"""Objects in other processes: a handle with ``submit(method, *args) -> Future``. Imports no torch.

A worker hosts one object and has one queue of calls, answered in order. It dies with its parent,
and whoever waits for it learns of its death within about a second.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO, Any, Literal, NoReturn, Protocol

from bench.errors import UserError

LIVENESS_S = 0.5  # how often either side makes sure that the other is alive
LOG_TAIL_BYTES = 4000
STOP = b""  # in place of a call
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}  # what it prints is in the order in which it is printed


class WorkerError(RuntimeError):
    """A call raised in the worker. The message is one line; ``details`` has the traceback."""

    def __init__(self, message: str, details: str = "") -> None:
        """Keep the remote traceback, or the end of the worker's output, beside the message."""
        super().__init__(message)
        self.details = details


class WorkerDiedError(WorkerError):
    """The worker's process ended before it answered."""


class Worker(Protocol):
    """A handle on an object in another process."""

    @property
    def ready(self) -> Future[None]:
        """Done when the object is built; has the exception if it could not be."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        ...

    def submit(self, method: str, *args: object) -> Future[Any]:
        """Call a method of the object; calls are answered in order."""
        ...

    def sync(self) -> None:
        """See to it that calls to come find the hand-off directory as it is now.

        A worker that works on a directory of its own has it brought up to date, also while it is
        busy with a call. Does not wait for that.
        """
        ...

    def close(self, grace_s: float = 5.0) -> None:
        """End the process: after ``grace_s`` at the latest, by force. May be called twice."""
        ...


class LocalWorker:
    """A worker in a new process of this machine.

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
    ) -> None:
        """Start the process and return at once; ``ready`` tells when it takes calls.

        Args:
            factory: picklable; called once in the worker, builds the object.
            name: for messages.
            threads: compute threads.
            cores: the cores it may run on, where the system lets one choose; None: as the parent.
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
        # No name on disk: the worker's output is there to be read back should it die.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        where = sorted(cores) if cores is not None else None
        self._process = subprocess.Popen(
            [sys.executable, "-c", _bootstrap(theirs.fileno(), where)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_thread_settings(threads), **UNBUFFERED},
            start_new_session=True,  # Ctrl-C is the parent's; one signal reaches its children too
        )
        theirs.close()  # so that the worker's death is seen as the end of the pipe
        self._calls.put(pickle.dumps(factory))
        self._threads = [
            threading.Thread(target=loop, daemon=True) for loop in (self._send, self._receive)
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
        """Call a method of the object; calls are answered in order.

        The future has a ``WorkerError`` if the method raised, a ``UserError`` if it raised one,
        and a ``WorkerDiedError`` if the process ended before it answered.
        """
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # cannot be taken back
        call = pickle.dumps((method, args))
        with self._lock:
            if self._death is None:
                self._waiting.append(future)
                self._calls.put(call)
                return future
        future.set_exception(WorkerDiedError(self._death, self._output))
        return future

    def sync(self) -> None:
        """Do nothing: the directory is the same."""

    def close(self, grace_s: float = 5.0) -> None:
        """End the process: after ``grace_s`` at the latest, by force. May be called twice."""
        if grace_s > 0:
            self._calls.put(STOP)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        self._kill()
        for thread in self._threads:
            thread.join()
        self._connection.close()

    def _send(self) -> None:
        """Write calls to the pipe, away from the caller: a busy worker reads late."""
        while (call := self._calls.get()) is not None:
            with suppress(OSError):  # it died meanwhile: seen by ``_receive``
                self._connection.send_bytes(call)

    def _receive(self) -> None:
        """Settle futures, in order, until the process ends."""
        with suppress(EOFError, OSError):
            while True:
                if self._connection.poll(LIVENESS_S):
                    reply = self._connection.recv_bytes()
                    _settle(self._waiting.popleft(), reply)
                elif not self.alive:  # its children may hold the pipe open
                    break
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LIVENESS_S)  # it may be about to exit by itself
        self._kill()
        output = _tail(self._log)
        code = self._process.returncode
        if code < 0:
            death = f"{self._name} was killed by {signal.Signals(-code).name}"
        else:
            last_line = output.rpartition("\n")[2] or "it printed nothing"
            death = f"{self._name} exited with status {code}: {last_line}"
        with self._lock:
            self._output, self._death = output, death
        for future in self._waiting:
            future.set_exception(WorkerDiedError(death, output))
        self._calls.put(None)
        self._log.close()

    def _kill(self) -> None:
        """Kill the process and the children it started, and wait for it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def serve(descriptor: int, cores: list[int] | None) -> None:
    """Host the object that the parent sends a factory of; runs in the worker's process."""
    if cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # before any library starts threads
    connection = Connection(descriptor)
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_calls, args=(connection, calls), daemon=True).start()
    try:
        hosted = pickle.loads(calls.get())()
    except Exception as error:  # the boundary of the process: reported, then it ends
        connection.send_bytes(_failure(error))
        sys.exit(1)
    connection.send_bytes(pickle.dumps(("done", None)))
    while (call := calls.get()) != STOP:
        try:
            method, args = pickle.loads(call)
            reply = pickle.dumps(("done", getattr(hosted, method)(*args)), protocol=5)
        except Exception as error:  # the boundary of a call: reported, the next call goes on
            reply = _failure(error)
        connection.send_bytes(reply)
    if hasattr(hosted, "close"):
        hosted.close()
    sys.stdout.flush()
    os._exit(0)  # the usual way out takes vLLM's libraries seconds


def _read_calls(connection: Connection, calls: queue.SimpleQueue[bytes]) -> NoReturn:
    """Queue what the parent sends; when there is no parent any more, end the whole group."""
    parent = os.getppid()
    with suppress(EOFError, OSError):
        while True:
            if connection.poll(LIVENESS_S):
                calls.put(connection.recv_bytes())
            elif os.getppid() != parent:
                break
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _bootstrap(descriptor: int, cores: list[int] | None) -> str:
    """Return the program of a worker: not the parent's main module, which may be slow to import."""
    return (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from bench.processes.workers import serve; serve({descriptor}, {cores})"
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


def _failure(error: Exception) -> bytes:
    kind: Literal["refused", "raised"] = "refused" if isinstance(error, UserError) else "raised"
    first_line = str(error).partition("\n")[0]
    message = first_line if kind == "refused" else f"{type(error).__name__}: {first_line}"
    return pickle.dumps((kind, (message, traceback.format_exc())))


def _settle(future: Future[Any], reply: bytes) -> None:
    try:
        kind, value = pickle.loads(reply)
    except Exception as error:  # the answer's class is not importable here, for one
        future.set_exception(WorkerError(f"unreadable answer: {error}", traceback.format_exc()))
        return
    if kind == "done":
        future.set_result(value)
    elif kind == "refused":
        future.set_exception(UserError(value[0]))
    else:
        future.set_exception(WorkerError(*value))
