"""Jobs side by side in spawned processes that survive each other's death. Imports no torch.

A worker is one process with one compute thread and takes job after job, since loading the
libraries costs as much as a small job. It reports to its parent through a pipe and dies with it.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from bench.errors import UserError

OnProgress = Callable[[int, float], None]  # updates done, latest win rate
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
PATIENCE_S = 3.0
ATTEMPTS = 2  # a job whose process is killed is tried once more


@dataclass(frozen=True)
class Job:
    """Something to do in a worker. ``payload`` is pickled."""

    label: str  # for people: "ppo reuse(4) seed 0"
    log_name: str  # file name of its traceback, should it fail
    group: str  # jobs of a group are expected to take equally long per update
    updates: int
    payload: Any


@dataclass(frozen=True)
class Event:
    """What happened to the job at ``index``."""

    kind: Literal["started", "progress", "finished", "retried", "failed", "refused"]
    index: int
    updates: int = 0
    win_rate: float = float("nan")
    error: str = ""  # one line, for retried, failed and refused


Execute = Callable[[Job, OnProgress], None]


@dataclass
class _Worker:
    process: Any  # multiprocessing's SpawnProcess
    connection: Connection
    index: int | None = None


def run_jobs(
    jobs: Sequence[Job], execute: Execute, *, workers: int, log_dir: Path
) -> Generator[Event, None, None]:
    """Run all jobs and yield what happens; close the iterator to stop all workers.

    A job that raises is ``failed`` (``refused`` for a UserError) and the others go on. A job
    whose process dies is ``retried`` once in a new process, then ``failed``.

    Args:
        jobs: started in this order.
        execute: picklable; called in the worker with the job and a progress callback.
        workers: processes at a time.
        log_dir: gets the workers' output and the traceback of every failed job.
    """
    waiting = deque(range(len(jobs)))
    deaths: Counter[int] = Counter()
    pool: list[_Worker] = []
    log_dir.mkdir(parents=True, exist_ok=True)
    try:
        while waiting or any(worker.index is not None for worker in pool):
            idle = sum(worker.index is None for worker in pool)
            wanted = min(workers - len(pool), len(waiting) - idle)
            pool += [_start(execute, log_dir) for _ in range(wanted)]
            for worker in pool:
                if worker.index is None and waiting:
                    worker.index = waiting.popleft()
                    yield Event("started", worker.index)
                    _hand_over(worker, jobs[worker.index])
            busy = {worker.connection: worker for worker in pool if worker.index is not None}
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                assert worker.index is not None
                try:
                    event = Event(index=worker.index, **worker.connection.recv())
                except (EOFError, OSError):
                    pool.remove(worker)
                    event = _death(worker, deaths)
                    if event.kind == "retried":
                        waiting.appendleft(worker.index)
                if event.kind != "progress":
                    worker.index = None
                yield event
    finally:
        _stop(pool)


def _start(execute: Execute, log_dir: Path) -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, execute, log_dir), daemon=False)
    with _inherited_settings():
        process.start()
    theirs.close()  # so that the worker's death is seen as the end of the pipe
    return _Worker(process, ours)


@contextmanager
def _inherited_settings() -> Iterator[None]:
    """Let new processes inherit one compute thread, and leave Ctrl-C to the parent."""
    saved = {name: os.environ.get(name) for name in ONE_THREAD}
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


def _stop(pool: Sequence[_Worker]) -> None:
    """End all workers: idle ones at once, busy ones at their next report, else by force."""
    for worker in pool:
        worker.connection.close()
    deadline = time.monotonic() + PATIENCE_S
    for worker in pool:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.terminate()
    for worker in pool:
        worker.process.join()


def _hand_over(worker: _Worker, job: Job) -> None:
    with suppress(OSError):  # it died meanwhile: seen when its connection is read
        worker.connection.send(job)


def _death(worker: _Worker, deaths: Counter[int]) -> Event:
    """Return what the death of a worker means for its job."""
    assert worker.index is not None
    worker.process.join()
    code = worker.process.exitcode
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
    deaths[worker.index] += 1
    if deaths[worker.index] < ATTEMPTS:
        return Event("retried", worker.index, error=f"its process was {how}; trying once more")
    return Event(
        "failed",
        worker.index,
        error=f"its process was {how} {ATTEMPTS} times (out of memory? use fewer --workers)",
    )


def _serve(connection: Connection, execute: Execute, log_dir: Path) -> None:
    """Work on what the parent sends until it closes the pipe."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _redirect_output(log_dir / f"worker-{os.getpid()}.log")

    def on_progress(updates: int, win_rate: float) -> None:
        connection.send({"kind": "progress", "updates": updates, "win_rate": win_rate})

    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        try:
            execute(job, on_progress)
            message = {"kind": "finished", "updates": job.updates}
        except BrokenPipeError:
            return  # the parent stopped while the job ran
        except UserError as error:
            message = {"kind": "refused", "error": str(error)}
        except Exception as error:  # the boundary of a job: reported, the next job goes on
            message = _failure(error, log_dir / f"{job.log_name}.log")
        connection.send(message)


def _failure(error: Exception, log: Path) -> dict[str, object]:
    """Return what to report of a job that raised; its traceback goes to ``log``."""
    if os.strerror(errno.ENOSPC) in str(error):  # not every library raises it as an OSError
        return {
            "kind": "refused",
            "error": f"no space left in {log.parents[1]} or the temporary directory; finished runs "
            "are safe, free some space and give the same command again",
        }
    with suppress(OSError):
        log.write_text("".join(traceback.format_exception(error)))
    first_line = str(error).partition("\n")[0]
    return {"kind": "failed", "error": f"{type(error).__name__}: {first_line} ({log})"}


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _redirect_output(path: Path) -> None:
    """Send this process's output to a file, away from the parent's live display."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
