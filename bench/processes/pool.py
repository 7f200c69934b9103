"""Jobs side by side in worker processes, here or on a Ray cluster. Imports no torch.

A worker takes job after job, since importing the libraries costs as much as a small job. A job's
result travels back to the caller, so that workers need not share any files with it.
"""

from __future__ import annotations

import errno
import os
import queue
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from bench.errors import UserError
from bench.processes.devices import Gpus
from bench.processes.local import LocalWorker
from bench.processes.worker import Worker, WorkerDiedError, WorkerError

ATTEMPTS = 2  # a job whose worker dies is tried once more
REPORT_TIMEOUT_S = 3600.0
EXIT_S = 3.0  # for an idle worker to end by itself


@dataclass(frozen=True)
class Job:
    """Something to do in a worker. ``payload`` is pickled."""

    label: str  # for people: "ppo reuse(4) seed 0"
    log_name: str  # of the file of its traceback, should it fail
    updates: int
    payload: Any


@dataclass(frozen=True)
class Event:
    """What happened to the job at ``index``."""

    kind: Literal["started", "progress", "finished", "retried", "failed", "refused"]
    index: int
    updates: int = 0
    win_rate: float = float("nan")
    warning: str = ""  # one line for the user, with progress
    error: str = ""  # one line, for retried, failed and refused
    result: Any = None  # what the job returned, for finished


class OnProgress(Protocol):
    """What a job reports to."""

    def __call__(self, updates: int, win_rate: float, warning: str = "") -> None:
        """Take updates done, the latest win rate and, if any, a line for the user."""
        ...


Execute = Callable[..., Any]  # job, OnProgress, the worker's directories -> the job's result
Message = dict[str, Any]  # the fields of an Event, except its index


class JobHost:
    """Runs jobs, one at a time; hosted by a worker.

    A job runs in a thread of its own. The worker's main thread passes on its messages.
    """

    def __init__(self, execute: Execute, *directories: Path) -> None:
        """Wait for jobs.

        Args:
            execute: called with a job, a progress callback and ``directories``.
            directories: those that were brought to the worker's machine.
        """
        self._execute = execute
        self._directories = directories
        self._messages: queue.SimpleQueue[Message | BaseException] = queue.SimpleQueue()

    def start(self, job: Job) -> Message:
        """Start a job and return its first message."""
        threading.Thread(target=self._run, args=(job,), daemon=True).start()
        return self.next_message()

    def next_message(self) -> Message:
        """Wait for the next progress of the job, or its end; raise what the job raised."""
        message = self._messages.get()
        if isinstance(message, BaseException):
            raise message
        return message

    def close(self) -> None:
        """End the process as a program ends, so that libraries remove their temporary files.

        Raises:
            SystemExit: always.
        """
        sys.exit()

    def _run(self, job: Job) -> None:
        def on_progress(updates: int, win_rate: float, warning: str = "") -> None:
            report = {"updates": updates, "win_rate": win_rate, "warning": warning}
            self._messages.put({"kind": "progress", **report})

        try:
            result = self._execute(job, on_progress, *self._directories)
        except BaseException as error:  # the boundary of a thread: raised again in the main one
            self._messages.put(error)
        else:
            self._messages.put({"kind": "finished", "updates": job.updates, "result": result})


Launch = Callable[..., Worker]  # starts a worker that hosts what it is given; ``gpus`` are its own


def launch_locally(host: Callable[[], JobHost], gpus: Gpus = ()) -> LocalWorker:
    """Start a worker on this machine."""
    return LocalWorker(host, name="its process", threads=1, gpus=gpus)


def run_jobs(
    jobs: Sequence[Job],
    execute: Execute,
    *,
    workers: int | Sequence[Gpus],
    log_dir: Path,
    launch: Launch = launch_locally,
    report_timeout_s: float = REPORT_TIMEOUT_S,
) -> Generator[Event, None, None]:
    """Run all jobs and yield what happens; close the generator to stop all workers.

    A job that raises is ``failed`` (``refused`` for a UserError or a full disk) and the others go
    on. A job whose worker dies, or is silent for too long, is ``retried`` once in a new worker,
    then ``failed``.

    Args:
        jobs: started in this order.
        execute: picklable; called in a worker, see ``JobHost``. Its result must be picklable.
        workers: how many at a time, or the GPUs of each; a worker keeps them for its life.
        log_dir: gets the traceback, or the last output, of every failed job.
        launch: starts a worker around what its argument builds.
        report_timeout_s: a worker that sends no message for so long is killed.

    Raises:
        UserError: there is to be no worker.
    """
    shares = [()] * workers if isinstance(workers, int) else workers
    if not shares:
        raise UserError(f"workers = {workers or 0}: must be at least 1")
    log_dir.mkdir(parents=True, exist_ok=True)
    host = partial(JobHost, execute)
    pool = _Pool(jobs, partial(launch, host), shares, log_dir, report_timeout_s)
    try:
        while not pool.done:
            while pool.may_start:
                yield pool.start_next()
            pool.stop_idle()  # no job waits for them
            for reply in pool.wait():
                yield pool.event(reply)
    finally:
        pool.stop()


@dataclass(frozen=True)
class _Running:
    """A job whose next message is awaited."""

    worker: Worker
    index: int
    deadline: float


class _Pool:
    """The workers of ``run_jobs`` and what they do."""

    def __init__(
        self,
        jobs: Sequence[Job],
        launch: Launch,
        shares: Sequence[Gpus],
        log_dir: Path,
        report_timeout_s: float,
    ) -> None:
        self._jobs = jobs
        self._launch = launch
        self._free = deque(shares)  # one for each worker that may still be started
        self._held: dict[Worker, Gpus] = {}
        self._log_dir = log_dir
        self._report_timeout_s = report_timeout_s
        self._waiting = deque(range(len(jobs)))
        self._deaths: Counter[int] = Counter()
        self._idle: list[Worker] = []
        self._running: dict[Future[Message], _Running] = {}

    @property
    def done(self) -> bool:
        return not (self._waiting or self._running)

    @property
    def may_start(self) -> bool:
        return bool(self._waiting and (self._idle or self._free))

    def start_next(self) -> Event:
        """Start the next job, in an idle worker or a new one."""
        if not self._idle:
            gpus = self._free.popleft()
            worker = self._launch(gpus=gpus) if gpus else self._launch()
            self._held[worker] = gpus
            self._idle.append(worker)
        index = self._waiting[0]
        reply = self._idle[-1].submit("start", self._jobs[index])
        self._expect(reply, self._idle.pop(), self._waiting.popleft())
        return Event("started", index)

    def wait(self) -> list[Future[Message]]:
        """Wait for messages; return the replies that are there, or overdue."""
        first_deadline = min(one.deadline for one in self._running.values())
        wait(self._running, max(0.0, first_deadline - time.monotonic()), FIRST_COMPLETED)
        now = time.monotonic()
        return [reply for reply, one in self._running.items() if reply.done() or now > one.deadline]

    def event(self, reply: Future[Message]) -> Event:
        """Return what a reply means for its job, and await the next one."""
        one = self._running.pop(reply)
        try:
            message = reply.result(0)
        except TimeoutError:
            silence = f"its process reported nothing for {self._report_timeout_s:g} s"
            return self._death(one, WorkerError(silence))
        except WorkerDiedError as error:
            return self._death(one, error)
        except (UserError, WorkerError) as error:
            self._idle.append(one.worker)
            return self._failure(one.index, error)
        if message["kind"] == "progress":
            self._expect(one.worker.submit("next_message"), one.worker, one.index)
        else:
            self._idle.append(one.worker)
        return Event(index=one.index, **message)

    def stop_idle(self) -> None:
        self._close(self._idle, EXIT_S)
        self._idle.clear()

    def stop(self) -> None:
        self._close([one.worker for one in self._running.values()], 0.0)
        self.stop_idle()

    def _close(self, workers: Sequence[Worker], grace_s: float) -> None:
        """Close workers at the same time, so that one that does not answer delays no other."""
        if workers:
            with ThreadPoolExecutor(len(workers)) as threads:
                for worker in workers:
                    threads.submit(worker.close, grace_s)
        self._free.extend(self._held.pop(worker) for worker in workers)

    def _expect(self, reply: Future[Message], worker: Worker, index: int) -> None:
        deadline = time.monotonic() + self._report_timeout_s
        self._running[reply] = _Running(worker, index, deadline)

    def _death(self, one: _Running, error: WorkerError) -> Event:
        """Return what the death of a worker means for its job."""
        self._close([one.worker], 0.0)
        at_start = one.worker.ready.exception() if one.worker.ready.done() else None
        if isinstance(at_start, WorkerError):  # it says more than the end of the process
            error = at_start
        self._deaths[one.index] += 1
        if self._deaths[one.index] < ATTEMPTS:
            self._waiting.appendleft(one.index)
            return Event("retried", one.index, error=f"{error}; trying once more")
        hint = " (out of memory? use fewer --workers)" if isinstance(error, WorkerDiedError) else ""
        log = self._log(one.index, error)
        return Event("failed", one.index, error=f"{error}, {ATTEMPTS} times{hint}{log}")

    def _failure(self, index: int, error: UserError | WorkerError) -> Event:
        """Return what it means that a job raised."""
        if isinstance(error, UserError):
            return Event("refused", index, error=str(error))
        if os.strerror(errno.ENOSPC) in error.details:  # not every library raises it as an OSError
            full = (
                f"no space left in {self._log_dir.parent} or the temporary directory; finished "
                "runs are safe, free some space and give the same command again"
            )
            return Event("refused", index, error=full)
        return Event("failed", index, error=f"{error}{self._log(index, error)}")

    def _log(self, index: int, error: WorkerError) -> str:
        """Write an error's details to the job's log, if there are any; return where."""
        if not error.details:
            return ""
        path = self._log_dir / f"{self._jobs[index].log_name}.log"
        with suppress(OSError):
            path.write_text(error.details)
        return f" ({path})"
