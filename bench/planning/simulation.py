"""A run as events: who generates, who trains and who waits, when. No clock, no models, no torch.

The rules are those of ``bench.sources``. Batch i may be generated once the version that the
schedule names is published. The engine generates one batch at a time, in order, and loads weights
if it has others. The learner takes batches in order, trains, and publishes a version if some batch
wants it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.staleness import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one batch takes, in seconds, of a device that does nothing else meanwhile."""

    generate_s: float
    train_s: float  # to score and to learn
    load_s: float = 0.0  # the engine's, to take over weights
    publish_s: float = 0.0  # the learner's, to hand them over


@dataclass(frozen=True, slots=True)
class Slowdown:
    """How many times as long each side takes while the other one works, too.

    Separate cores share caches, memory bandwidth and the clock rate.
    """

    engine: float = 1.0
    learner: float = 1.0


NO_SLOWDOWN = Slowdown()


@dataclass(frozen=True, slots=True)
class Batch:
    """When one batch was made and used, in seconds from the start of the run."""

    version: int  # of the policy that generated it
    generate_start_s: float  # loading included
    generate_end_s: float
    train_start_s: float
    train_end_s: float  # publishing included


@dataclass(frozen=True, slots=True)
class Timeline:
    """A simulated run."""

    batches: tuple[Batch, ...]

    @property
    def update_s(self) -> float:
        """Seconds per update: of the whole run, its start included."""
        return self.batches[-1].train_end_s / len(self.batches)

    @property
    def engine_busy(self) -> float:
        """Share of the run that the engine generates or loads."""
        return sum(b.generate_end_s - b.generate_start_s for b in self.batches) / self._end_s

    @property
    def learner_busy(self) -> float:
        """Share of the run that the learner trains or publishes."""
        return sum(b.train_end_s - b.train_start_s for b in self.batches) / self._end_s

    @property
    def staleness(self) -> Counter[int]:
        """How many batches are trained on at each staleness, in optimiser batches."""
        return Counter(i - batch.version for i, batch in enumerate(self.batches))

    @property
    def staleness_mean(self) -> float:
        """Mean over the batches."""
        return sum(i - batch.version for i, batch in enumerate(self.batches)) / len(self.batches)

    @property
    def _end_s(self) -> float:
        return self.batches[-1].train_end_s


class _Side:
    """An engine or a learner: what it works on, and how much of that is left."""

    def __init__(self, slowdown: float) -> None:
        self._slowdown = slowdown
        self.left_s: float | None = None  # at full speed; None: idle
        self.start_s = 0.0

    def start(self, now_s: float, work_s: float) -> None:
        self.start_s, self.left_s = now_s, work_s

    def rate(self, other: _Side) -> float:
        """Seconds of work per second."""
        return 1.0 if other.left_s is None else 1 / self._slowdown

    def needs_s(self, other: _Side) -> float:
        """Seconds until it is done, if nothing changes before."""
        return float("inf") if self.left_s is None else self.left_s / self.rate(other)


def overlapped(
    schedule: Schedule, work: Sequence[Work], slowdown: Slowdown = NO_SLOWDOWN
) -> Timeline:
    """Return the run of an engine and a learner with devices of their own.

    Args:
        schedule: which version generates which batch.
        work: of batch 0, 1, ...
        slowdown: of the one by the other.
    """
    engine, learner = _Side(slowdown.engine), _Side(slowdown.learner)
    count, now_s = len(work), 0.0
    newest, loaded = 0, -1  # versions: published last, loaded last
    generated: list[tuple[int, float, float]] = []  # version, start, end
    batches: list[Batch] = []
    while len(batches) < count:
        index, step = len(generated), len(batches)
        if engine.left_s is None and index < count and schedule.version_at(index) <= newest:
            version = schedule.version_at(index) if schedule.lock_step else newest
            load_s = work[index].load_s if version != loaded else 0.0
            loaded = version
            engine.start(now_s, load_s + work[index].generate_s)
        if learner.left_s is None and step < len(generated):
            publish_s = work[step].publish_s if _wanted(schedule, step + 1, count) else 0.0
            learner.start(now_s, work[step].train_s + publish_s)
        needs = {engine: engine.needs_s(learner), learner: learner.needs_s(engine)}
        passed_s = min(needs.values())
        rates = {engine: engine.rate(learner), learner: learner.rate(engine)}
        now_s += passed_s
        for side, need_s in needs.items():
            if side.left_s is not None:
                side.left_s = 0.0 if need_s == passed_s else side.left_s - passed_s * rates[side]
        if engine.left_s == 0:
            generated.append((loaded, engine.start_s, now_s))
            engine.left_s = None
        if learner.left_s == 0:
            batches.append(Batch(*generated[step], learner.start_s, now_s))
            learner.left_s = None
            if _wanted(schedule, step + 1, count):
                newest = step + 1
    return Timeline(tuple(batches))


def in_turn(schedule: Schedule, work: Sequence[Work]) -> Timeline:
    """Return the run of an engine in the learner's process, which generates when it is asked.

    Args:
        schedule: a lock-step one.
        work: of batch 0, 1, ..., with all devices for each phase.

    Raises:
        ValueError: the schedule runs freely, which one process cannot.
    """
    if not schedule.lock_step:
        raise ValueError(f"schedule {schedule}: runs freely, which one process cannot")
    now_s, loaded = 0.0, -1
    batches: list[Batch] = []
    for index, one in enumerate(work):
        version = schedule.version_at(index)
        made_s = now_s + one.generate_s + (one.load_s if version != loaded else 0.0)
        wanted = schedule.generates_with(index + 1)
        done_s = made_s + one.train_s + (one.publish_s if wanted else 0.0)
        batches.append(Batch(version, now_s, made_s, made_s, done_s))
        now_s, loaded = done_s, version
    return Timeline(tuple(batches))


def _wanted(schedule: Schedule, version: int, count: int) -> bool:
    """Say whether any of ``count`` batches will be generated by a version: as ``Source.wants``."""
    latest = schedule.version_at(count - 1) if schedule.lock_step else count - 1
    return schedule.generates_with(version) and version <= latest
