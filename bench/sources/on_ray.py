"""An engine on a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.config import Execution
from bench.processes.on_ray.connection import connect, require_room
from bench.processes.on_ray.parcels import Parcel
from bench.processes.on_ray.worker import RayWorker
from bench.sources.base import Engine
from bench.sources.host import Answer, Call, EngineHost


def ray_launch(
    build: Callable[[Path], Engine], model_dir: Path, execution: Execution
) -> Callable[[Path], RayWorker]:
    """Return what starts an engine on the cluster that the execution names.

    Args:
        build: picklable; builds the engine around a checkpoint.
        model_dir: the checkpoint; copied to the engine's machine if it is not there.
        execution: address, threads, CPUs and GPUs.

    Raises:
        UserError: there is no such cluster, or no machine of it has as many CPUs or GPUs.
    """
    cpus, gpus = execution.engine_cpus or execution.engine_threads, execution.engine_gpus
    connect(execution.ray_address)
    require_room("the engine", cpus=cpus, gpus=gpus)
    parcel = Parcel.of(model_dir)

    def launch(directory: Path) -> RayWorker:
        return RayWorker(
            partial(_host, build, _epoch_s()),
            directory,
            needs=[parcel],
            name="the engine's process",
            threads=execution.engine_threads,
            cpus=cpus,
            gpus=gpus,
        )

    return launch


class RemoteHost(EngineHost):
    """An ``EngineHost`` that reports times on the learner's clock."""

    def __init__(
        self, engine_factory: Callable[[], Engine], directory: Path, epoch_s: float
    ) -> None:
        """Build the engine; ``epoch_s`` is the learner's ``_epoch_s``."""
        super().__init__(engine_factory, directory)
        self._ahead_s = _epoch_s() - epoch_s

    def generate(self, call: Call) -> Answer:
        """Generate a batch; see ``EngineHost``."""
        answer = super().generate(call)
        spans = [
            replace(span, start_s=span.start_s + self._ahead_s, end_s=span.end_s + self._ahead_s)
            for span in answer.spans
        ]
        return replace(answer, spans=tuple(spans))


def _host(
    build: Callable[[Path], Engine], epoch_s: float, directory: Path, model_dir: Path
) -> RemoteHost:
    return RemoteHost(partial(build, model_dir), directory, epoch_s)


def _epoch_s() -> float:
    """Return the Unix time, in seconds, at which this machine's ``perf_counter`` was 0."""
    return time.time() - time.perf_counter()
