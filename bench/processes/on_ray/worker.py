"""A worker on a Ray cluster.

An actor, the agent, starts a ``LocalWorker`` on its machine, which hosts the object. So the death
of the object's process is reported as that of a local worker, and a process that hangs can be
killed. The agent keeps a copy of the learner's hand-off directory, if there is one, in the shared
memory of its machine.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from bench.errors import UserError
from bench.processes.local import LocalWorker
from bench.processes.on_ray.connection import environment, one_line
from bench.processes.on_ray.parcels import Content, Parcel, put
from bench.processes.shared_memory import RunDirectory
from bench.processes.worker import LIVENESS_S, WorkerDiedError, WorkerError

CLOSE_S = 5.0  # for the agent to answer, beyond the grace of what it hosts

Reply = tuple[str, Any]  # (done, value), or (class of the error, its arguments)


class RayWorker:
    """A worker in a new process of the cluster; see ``bench.processes.worker.Worker``."""

    def __init__(
        self,
        factory: Callable[..., object],
        directory: Path | None = None,
        *,
        needs: Sequence[Parcel] = (),
        name: str = "worker",
        threads: int = 1,
        cpus: float = 1.0,
        gpus: float = 0.0,
    ) -> None:
        """Start the process and return at once.

        Args:
            factory: picklable; called once in the worker, builds the object. Its arguments are the
                copy of ``directory``, if there is one, and the directories of ``needs``.
            directory: the hand-off directory, whose files never change; see ``sync``.
            needs: directories that the object needs on its machine.
            name: for messages.
            threads: compute threads.
            cpus: reserved on the cluster.
            gpus: reserved on the cluster; the process sees no others.
        """
        self._name = name
        self._directory = directory
        actor: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, runtime_env=environment())(Agent)
        has_copy = directory is not None
        self._agent = actor.remote(pickle.dumps(factory), has_copy, list(needs), name, threads)
        self._calls = 0
        self._held: set[str] = set()  # names that the copy has when ``_synced`` is done
        self._synced: Any = None
        self._pids = self._agent.pids.remote().future()
        self._ended = self._agent.ended.remote().future()
        self.ready: Future[None] = self._answer(self._agent.ready.remote())
        self.sync()

    @property
    def alive(self) -> bool:
        """Whether the process runs, by the latest news of it."""
        return not self._ended.done()

    def pids(self, timeout_s: float) -> tuple[int, int]:
        """Return the process ids of the agent and of what hosts the object."""
        found: tuple[int, int] = self._pids.result(timeout_s)
        return found

    def submit(self, method: str, *args: object) -> Future[Any]:
        """Call a method of the object; see ``Worker.submit``."""
        call = pickle.dumps((method, args))
        future = self._answer(self._agent.call.remote(self._calls, call, self._synced))
        self._calls += 1
        return future

    def sync(self) -> None:
        """Make the present files of the directory visible to all later calls."""
        if self._directory is None:
            return
        names = {path.name for path in self._directory.glob("*.safetensors")}
        new = sorted(names - self._held)
        files = [put(self._directory / name) for name in new]
        self._synced = self._agent.sync.remote(self._synced, names, new, *files)
        self._held = names

    def close(self, grace_s: float = 5.0) -> None:
        """End the process, by force if it is not done after ``grace_s``. May be called twice."""
        if self._pids.done():  # else the agent is not built, and may never be
            with suppress(RayError):
                ray.get(self._agent.close.remote(grace_s), timeout=grace_s + CLOSE_S)
        ray.kill(self._agent)

    def _answer(self, reference: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # cannot be taken back
        reference.future().add_done_callback(partial(self._settle, future))
        return future

    def _settle(self, future: Future[Any], answered: Future[Reply]) -> None:
        error = answered.exception()
        if isinstance(error, ray.exceptions.RayTaskError):
            future.set_exception(WorkerError(f"{self._name}: {one_line(error.cause)}", str(error)))
            return
        if error is not None:
            message = f"{self._name} died with its Ray actor: {_reason(error)}"
            future.set_exception(WorkerDiedError(message, str(error)))
            return
        kind, value = answered.result()
        if kind != "done":
            errors = {"refused": UserError, "raised": WorkerError, "died": WorkerDiedError}
            future.set_exception(errors[kind](*value))
            return
        try:
            future.set_result(pickle.loads(value))
        except Exception as error:  # its class is not importable here, for one
            future.set_exception(WorkerError(f"unreadable answer: {error}", traceback.format_exc()))


class Agent:
    """The actor: it answers also while the object is busy."""

    def __init__(
        self, factory: bytes, has_copy: bool, needs: Sequence[Parcel], name: str, threads: int
    ) -> None:
        """Start the process that hosts the object."""
        self._copy = RunDirectory() if has_copy else None
        copy = self._copy.path if self._copy is not None else None
        directories = [*filter(None, [copy]), *(parcel.unpack() for parcel in needs)]
        self._worker = LocalWorker(
            partial(Hosted, factory, directories), name=name, threads=threads, run_directory=copy
        )
        self._submitted = 0
        self._turn = asyncio.Condition()

    async def pids(self) -> tuple[int, int]:
        """Return the process ids of the agent and of what hosts the object."""
        return os.getpid(), self._worker.pid

    async def ready(self) -> Reply:
        """Wait for the object."""
        kind, value = await _reply(self._worker.ready)
        return kind, pickle.dumps(value) if kind == "done" else value

    async def ended(self) -> None:
        """Wait for the end of the object's process."""
        while self._worker.alive:
            await asyncio.sleep(LIVENESS_S)

    async def call(self, number: int, call: bytes, synced: None) -> Reply:
        """Call a method of the object, in the order of ``number``: Ray may deliver in another."""
        del synced  # Ray has waited for it
        async with self._turn:
            await self._turn.wait_for(lambda: self._submitted == number)
            future = self._worker.submit("call", call)
            self._submitted += 1
            self._turn.notify_all()
        return await _reply(future)

    async def sync(
        self, synced: None, names: set[str], new: Sequence[str], *files: Content
    ) -> None:
        """Add files to the copy of the directory and remove those that are not in ``names``."""
        del synced  # Ray has waited for the update before this one
        await asyncio.to_thread(self._update, names, dict(zip(new, files, strict=True)))

    async def close(self, grace_s: float) -> None:
        """End the object's process and remove the copy of the directory."""
        await asyncio.to_thread(self._worker.close, grace_s)
        if self._copy is not None:
            self._copy.close()

    def _update(self, names: set[str], new: dict[str, Content]) -> None:
        assert self._copy is not None
        for name, content in new.items():
            path = self._copy.path / name
            content.tofile(path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
        for path in self._copy.path.iterdir():
            if path.name not in names:
                path.unlink()


class Hosted:
    """The object in its process; the agent passes calls and answers on without unpickling them."""

    def __init__(self, factory: bytes, directories: Sequence[Path]) -> None:
        """Build the object."""
        self._hosted = pickle.loads(factory)(*directories)

    def call(self, call: bytes) -> bytes:
        """Call a method of the object."""
        method, args = pickle.loads(call)
        return pickle.dumps(getattr(self._hosted, method)(*args), protocol=5)

    def close(self) -> None:
        """Close the object, if it can be closed."""
        if hasattr(self._hosted, "close"):
            self._hosted.close()


async def _reply(future: Future[Any]) -> Reply:
    try:
        return "done", await asyncio.wrap_future(future)
    except UserError as error:
        return "refused", (str(error),)
    except WorkerError as error:
        kind = "died" if isinstance(error, WorkerDiedError) else "raised"
        return kind, (str(error), error.details)


def _reason(error: BaseException) -> str:
    """Return why an actor died: the first sentence of the last paragraph of Ray's message."""
    return str(error).strip().rpartition("\n")[2].partition(". ")[0]
