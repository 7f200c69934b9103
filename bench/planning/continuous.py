"""Engines that never stop, with a queue: the mean staleness of other systems, as a closed form.

No schedule of this suite works so: a batch here is generated as a whole. Elsewhere a fixed number
of completions is always in progress, finished groups join a queue, and the learner takes a batch
from it whenever it can. A full queue loses its oldest sample. With

- ``concurrency`` C: completions in progress,
- ``batch`` B: samples of an update,
- ``capacity`` q: of the queue, in batches,
- ``ratio`` rho: what the engine makes over what the learner takes, per second, each at full speed,
- ``tail`` M: the mean longest completion of a group over the mean completion,

a sample is, in the mean, so many updates old when it is trained on:

    C M / B + rho                                      rho < 1, the learner waits
    C M / (rho B) + (2 q + rho - 1) / (2 rho)          rho > 1, the queue is full

The first term is the updates crossed while generating, the second those while queued. The formula
is by Applied Compute (July 2026), who compared it with six runs: see ``PUBLISHED``.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuous:
    """An engine that never stops, its queue and its learner."""

    concurrency: int
    batch: int
    capacity: int
    ratio: float
    tail: float

    @property
    def staleness_mean(self) -> float:
        """Mean staleness in optimiser batches, by the closed form."""
        crossed = self.concurrency * self.tail / self.batch
        if self.ratio < 1:
            return crossed + self.ratio
        return crossed / self.ratio + (2 * self.capacity + self.ratio - 1) / (2 * self.ratio)


PUBLISHED = tuple(  # six runs of an 8B model: the system, its authors' prediction, measurement
    (
        Continuous(concurrency=in_progress, batch=batch, capacity=q, ratio=ratio, tail=tail),
        predicted,
        measured,
    )
    for in_progress, batch, q, ratio, tail, predicted, measured in (
        (120, 240, 2, 0.63, 1.42, 1.34, 1.26),
        (240, 120, 2, 0.92, 1.43, 3.86, 3.59),
        (128, 128, 2, 1.07, 1.44, 3.29, 3.09),
        (240, 120, 1, 0.86, 1.42, 3.34, 3.40),
        (120, 120, 1, 0.67, 1.42, 1.95, 1.92),
        (128, 128, 1, 1.14, 1.45, 2.24, 2.01),
    )
)


def simulate(
    system: Continuous, *, group: int = 8, updates: int = 400, warm_up: int = 50, seed: int = 0
) -> float:
    """Return the mean staleness of the samples trained on, event by event.

    Lengths are uniform between 1 - w and 1 + w. The longest of G such lengths has a mean of
    1 + w (G - 1) / (G + 1), which is M. So a group of 8 can have an M up to 1.78.

    Args:
        system: what is simulated.
        group: completions of a prompt, G; they join the queue together.
        updates: how many, the first ones included.
        warm_up: updates that do not count.
        seed: of the lengths.

    Raises:
        ValueError: no such lengths have this M.
    """
    width = (system.tail - 1) * (group + 1) / (group - 1)
    if not 0 <= width <= 1:
        raise ValueError(f"tail = {system.tail}: must be 1 to {1 + (group - 1) / (group + 1):.2f}")
    rng = random.Random(seed)
    # One completion of mean length takes one second, so that the engine makes C samples a second.
    train_s = system.ratio * system.batch / system.concurrency
    waiting: list[list[int]] = []  # of groups in progress: the versions of their samples
    queue: deque[int] = deque(maxlen=system.capacity * system.batch)  # versions, oldest first
    running: list[tuple[float, int, int]] = []  # end, order, group
    lacking: list[int] = []  # by group: samples that are not finished
    version, order, trained_until = 0, 0, 0.0
    total = counted = 0

    def start(now_s: float) -> None:
        nonlocal order
        if not waiting or len(waiting[-1]) == group:
            waiting.append([])
            lacking.append(group)
        waiting[-1].append(version)
        length_s = rng.uniform(1 - width, 1 + width)
        heapq.heappush(running, (now_s + length_s, order, len(waiting) - 1))
        order += 1

    # Starts are spread, as they are after a while.
    starts = [(i / system.concurrency, -1) for i in range(system.concurrency)]
    training = False
    while version < updates:
        next_end_s = running[0][0] if running else float("inf")
        next_start_s = starts[0][0] if starts else float("inf")
        if training and trained_until <= min(next_end_s, next_start_s):
            now_s, training = trained_until, False
            version += 1
        elif starts and next_start_s <= next_end_s:
            now_s, _ = starts.pop(0)
            start(now_s)
        else:
            now_s, _, number = heapq.heappop(running)
            lacking[number] -= 1
            if not lacking[number]:
                queue.extend(waiting[number])
                waiting[number] = [0] * group  # past use
            start(now_s)
        if not training and len(queue) >= system.batch:
            taken = [queue.popleft() for _ in range(system.batch)]
            if version >= warm_up:
                total += sum(version - made for made in taken)
                counted += len(taken)
            training, trained_until = True, now_s + train_s
    return total / counted
