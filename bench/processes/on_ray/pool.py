"""Grid cells as tasks of a Ray cluster: events as of ``bench.processes.pool``. Imports no torch.

A task need not share files with this process: checkpoints come to it through the object store,
and the files that it writes go back the same way and are written here.
"""

from __future__ import annotations

import queue
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from bench.errors import UserError
from bench.processes.on_ray.connection import environment, one_line
from bench.processes.on_ray.parcels import Parcel
from bench.processes.pool import ATTEMPTS, ONE_THREAD, Event, Job, OnProgress
from bench.records import store

if TYPE_CHECKING:
    from bench.types import StageModels

WAIT_S = 0.5

Message = dict[str, Any]  # the fields of an Event, but for its index, and what goes with it
Parcels = dict[Path, Parcel]
ExecuteIn = Callable[[Path, Job, OnProgress], None]


def run_jobs(
    jobs: Sequence[Job],
    execute: ExecuteIn,
    *,
    results_dir: Path,
    log_dir: Path,
    gpus: float = 0.0,
) -> Generator[Event, None, None]:
    """Run all cells and yield what happens; close the iterator to stop all tasks.

    Args:
        jobs: of a sweep's ``Cell``; queued in this order. The cluster decides how many run.
        execute: picklable; called in a task with a directory for the tables of its run, the job,
            whose checkpoints are local to the task, and a progress callback.
        results_dir: gets the tables.
        log_dir: gets the traceback of every failed job.
        gpus: of each task, which has one CPU.
    """
    run = ray.remote(
        num_cpus=1,
        num_gpus=gpus,
        max_retries=0,  # a retried job is an event
        num_returns="streaming",
        runtime_env={"env_vars": environment()["env_vars"] | ONE_THREAD},
    )(_run)
    parcels = {
        path: Parcel.of(path)
        for path in sorted({path for job in jobs for path in _checkpoints(job.payload.models)})
    }
    wanted = [{path: parcels[path] for path in _checkpoints(job.payload.models)} for job in jobs]
    deaths: Counter[int] = Counter()
    running: dict[Any, int] = {}
    log_dir.mkdir(parents=True, exist_ok=True)
    try:
        for index, job in enumerate(jobs):
            running[run.remote(execute, job, wanted[index])] = index
        while running:
            ready: list[Any] = ray.wait(list(running), num_returns=1, timeout=WAIT_S)[0]
            for task in ready:
                index = running[task]
                try:
                    message = ray.get(next(task))
                except ray.exceptions.RayError as error:
                    deaths[index] += 1
                    event = _death(index, deaths[index], error)
                else:
                    event = _event(index, jobs[index], message, results_dir, log_dir)
                if event.kind not in ("started", "progress"):
                    del running[task]
                if event.kind == "retried":
                    running[run.remote(execute, jobs[index], wanted[index])] = index
                yield event
    finally:
        for task in running:
            ray.cancel(task, force=True)


def _event(index: int, job: Job, message: Message, results_dir: Path, log_dir: Path) -> Event:
    """Write what a task sent and return what it means."""
    files, log = message.pop("files", {}), message.pop("log", "")
    if log:
        path = log_dir / f"{job.log_name}.log"
        path.write_text(log)
        message["error"] += f" ({path})"
    # As locally, a run's row in the table of runs comes last and says that the run is complete.
    for name in sorted(files, key=lambda name: (name.startswith("runs/"), name)):
        store.write_bytes(results_dir / name, files[name])
    return Event(index=index, **message)


def _death(index: int, deaths: int, error: Exception) -> Event:
    how = f"its process on the cluster died: {one_line(error).partition('. ')[0]}"
    if deaths < ATTEMPTS:
        return Event("retried", index, error=f"{how}; trying once more")
    return Event("failed", index, error=f"{how}, {ATTEMPTS} times (out of memory?)")


def _run(execute: ExecuteIn, job: Job, parcels: Parcels) -> Iterator[Message]:
    """Do a job; runs in the task, in a thread, so that what it reports is sent meanwhile."""
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def on_progress(updates: int, win_rate: float) -> None:
        messages.put({"kind": "progress", "updates": updates, "win_rate": win_rate})

    def work() -> None:
        try:
            with tempfile.TemporaryDirectory() as directory:
                execute(Path(directory), _localised(job, parcels), on_progress)
                files = {
                    str(file.relative_to(directory)): file.read_bytes()
                    for file in Path(directory).glob("*/*.parquet")
                }
            messages.put({"kind": "finished", "updates": job.updates, "files": files})
        except UserError as error:
            messages.put({"kind": "refused", "error": str(error)})
        except Exception as error:  # the boundary of a job: reported, the next job goes on
            message = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            messages.put({"kind": "failed", "error": message, "log": traceback.format_exc()})

    yield {"kind": "started"}
    threading.Thread(target=work, daemon=True).start()
    while True:
        message = messages.get()
        yield message
        if message["kind"] != "progress":
            return


def _checkpoints(models: StageModels) -> tuple[Path, Path]:
    return models.sft_dir, models.reward_dir


def _localised(job: Job, parcels: Parcels) -> Job:
    """Return the job with checkpoints that are on this machine."""
    models = job.payload.models
    sft_dir, reward_dir = (parcels[path].unpack() for path in _checkpoints(models))
    return replace(
        job,
        payload=replace(
            job.payload, models=replace(models, sft_dir=sft_dir, reward_dir=reward_dir)
        ),
    )
