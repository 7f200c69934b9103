"""A handle on an object in another process, here or on another machine. Imports no torch.

A worker hosts one object and answers calls of its methods in order. It dies with its parent, and
whoever waits for an answer learns of the worker's death within about a second.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol

LIVENESS_S = 0.5  # how often either side checks that the other is alive


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
        """Call a method of the object; calls are answered in order.

        The future has a ``UserError`` if the method raised one, a ``WorkerError`` if it raised
        anything else, and a ``WorkerDiedError`` if the process ended before it answered.
        """
        ...

    def sync(self) -> None:
        """Make the present files of the hand-off directory visible to all later calls.

        A worker that shares the directory does nothing. A worker with a copy of the directory
        updates the copy, even while a call runs. Returns at once.
        """
        ...

    def close(self, grace_s: float = 5.0) -> None:
        """End the process, by force if it is not done after ``grace_s``. May be called twice."""
        ...
