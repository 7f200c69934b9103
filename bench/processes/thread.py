"""A worker in a thread of this process: for what cannot leave it. Imports no torch."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from bench.errors import UserError
from bench.processes.devices import Gpus
from bench.processes.worker import WorkerError


class ThreadWorker:
    """A worker without a process; see ``bench.processes.worker.Worker``. It has all GPUs."""

    alive = True

    def __init__(self, factory: Callable[[], object], gpus: Gpus = ()) -> None:
        """Build the object."""
        del gpus
        self.ready: Future[None] = Future()
        self.ready.set_result(None)
        self._hosted = factory()

    def submit(self, method: str, *args: object) -> Future[Any]:
        """Call a method of the object; a caller that waits for each answer gets them in order."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()

        def call() -> None:
            try:
                future.set_result(getattr(self._hosted, method)(*args))
            except UserError as error:
                future.set_exception(error)
            except Exception as error:  # the boundary of a worker
                line = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                future.set_exception(WorkerError(line, traceback.format_exc()))

        # Not waited for at the end of the program, whatever it waits for itself.
        threading.Thread(target=call, daemon=True).start()
        return future

    def sync(self) -> None:
        """Do nothing: there is one process."""

    def close(self, grace_s: float = 5.0) -> None:
        """Do nothing: a thread ends with the program."""
