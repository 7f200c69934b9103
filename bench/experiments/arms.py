"""Timed runs: which cores and GPUs engine and learner get, so that times can be compared.

| timed | generation | learner | baseline |
|---|---|---|---|
| ``split`` | a process of its own, on its cores | on the others | takes turns, as the paper's |
| ``whole`` | in the learner's process, if it may | on all cores | takes turns, no core idle |
| ``overlapped`` | a process of its own, on its cores | on the others | - |

``split`` and ``overlapped`` differ in the schedule alone. A timed run has the machine to itself.
Where there are two GPUs, an engine in a process of its own has the second.
Imports torch only to ask an engine what it is.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, fields
from typing import get_args

from bench.config import Execution, RunConfig
from bench.engines import engine_class
from bench.errors import UserError
from bench.staleness import ON_POLICY, lag
from bench.types import Timed

SYNCHRONOUS: tuple[Timed, ...] = ("split", "whole")
ARMS: tuple[Timed, ...] = get_args(Timed)


@dataclass(frozen=True, kw_only=True)
class TimedRun(RunConfig):
    """A run whose time is a result: alone on the machine, on the cores of its arm.

    The arm is part of its identity: the numbers of two arms are the same, their times are not.
    """

    timed: Timed


def arm(config: RunConfig, timed: Timed) -> TimedRun:
    """Return a run as one arm of the comparison: on-policy, or overlapped one step off-policy."""
    shared = {field.name: getattr(config, field.name) for field in fields(config)}
    schedule = ON_POLICY if timed in SYNCHRONOUS else lag(1)
    return TimedRun(**{**shared, "schedule": schedule, "timed": timed})


def timed_arm(config: RunConfig) -> Timed | None:
    """Return the arm of a timed run, or None."""
    return config.timed if isinstance(config, TimedRun) else None


def execution(config: RunConfig) -> Execution:
    """Return how a run is carried out; a timed one has all cores that this process may use.

    Raises:
        UserError: engine and learner need a core each, and there are fewer.
    """
    inline = not engine_class(config.engine).own_process and config.schedule.lock_step
    timed = timed_arm(config)
    if timed is None:
        return Execution(source="inline" if inline else "overlapped")
    cores = available_cores()
    if timed == "whole":
        if inline:
            return Execution(learner_threads=cores, pin_cores=True)
        return Execution(source="overlapped", learner_threads=cores, engine_threads=cores)
    if cores < 2:
        raise UserError(
            f"timed = {timed!r}: learner and engine need a core each, this process may use 1"
        )
    learner = (cores + 1) // 2
    return Execution(
        source="overlapped",
        learner_threads=learner,
        engine_threads=cores - learner,
        pin_cores=True,
    )


def gpus_of(config: RunConfig, given: Execution | None = None) -> int:
    """Return how many GPUs a run is given, where there are as many.

    Two, if its engine has a process of its own on this machine or it is timed, so that all arms see
    the same, else one. All, if devices are named: they are counted from the machine's first.

    Args:
        config: the run.
        given: how it is carried out; None: as ``execution`` says.
    """
    how = given or execution(config)
    if (how.device, how.engine_device) != (None, None):
        return sys.maxsize
    apart = (how.source, how.workers) == ("overlapped", "local")
    return 2 if apart or timed_arm(config) is not None else 1


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_warning() -> str | None:
    """Return a warning if the machine is busy with other work, or None."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load < 0.5:
        return None
    return f"the machine is busy (load {load:.1f}): timed runs will look slower than they are"
