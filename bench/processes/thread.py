"""A worker in a thread of this process: for what cannot leave it. Imports no torch."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NoReturn

from bench.errors import UserError
from bench.processes.devices import Gpus
from bench.processes.worker import WorkerError


class ThreadWorker:
    """A worker without a process; see ``bench.processes.worker.Worker``. It sees all GPUs."""

    alive = True

    def __init__(self, factory: Callable[[], object], gpus: Gpus = ()) -> None:
        """Build the object."""
        del gpus
        self.ready: Future[None] = Future()
        self.ready.set_result(None)
        self._hosted = factory()
        self._calls: queue.SimpleQueue[tuple[Future[Any], str, tuple[object, ...]]] = (
            queue.SimpleQueue()
        )
        # The program does not wait for it at its end, whatever the call itself waits for.
        threading.Thread(target=self._answer, daemon=True).start()

    def submit(self, method: str, *args: object) -> Future[Any]:
        """Call a method of the object; calls are answered in order."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # cannot be cancelled
        self._calls.put((future, method, args))
        return future

    def sync(self) -> None:
        """Do nothing: there is one process."""

    def close(self, grace_s: float = 5.0) -> None:
        """Do nothing: the thread ends with the program."""

    def _answer(self) -> NoReturn:
        while True:
            future, method, args = self._calls.get()
            try:
                future.set_result(getattr(self._hosted, method)(*args))
            except UserError as error:
                future.set_exception(error)
            except Exception as error:  # the boundary of a call: the next one goes on
                line = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                future.set_exception(WorkerError(line, traceback.format_exc()))
