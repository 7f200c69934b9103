"""Predictions for every schedule and split of devices, and a recommendation. Imports no torch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

import pandas as pd

from bench.errors import UserError
from bench.planning.simulation import NO_SLOWDOWN, Slowdown, Timeline, Work, in_turn, overlapped
from bench.staleness import ON_POLICY, Schedule, bounded, lag, reuse

Devices = Literal["split", "whole"]

SCHEDULES = (ON_POLICY, reuse(4), lag(1), lag(2), bounded(1), bounded(2), bounded(4))
TIE = 0.02  # of the fastest time: predictions are no better


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a few updates of one model took on one machine.

    ``split`` is of engine and learner on devices of their own, taking turns. ``whole`` is of each
    phase on all devices. Either may be empty: not possible on this machine, or not measured.
    """

    model: str
    split: tuple[Work, ...] = ()
    whole: tuple[Work, ...] = ()
    slowdown: Slowdown = NO_SLOWDOWN

    def __post_init__(self) -> None:
        """Refuse what predicts nothing.

        Raises:
            UserError: there are no updates at all, or a number is out of range.
        """
        if not self.split and not self.whole:
            raise UserError(f"model {self.model}: no update was measured, nor given by flags")
        for one in (*self.split, *self.whole):
            if min(one.generate_s, one.train_s, one.load_s, one.publish_s) < 0:
                raise UserError("seconds must not be negative")
            if one.generate_s + one.train_s <= 0:
                raise UserError("an update must take some time: generation or training above 0 s")
        if min(self.slowdown.engine, self.slowdown.learner) < 1:
            raise UserError("a slowdown is the time beside the other over the time alone, >= 1")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One schedule on one split of the devices."""

    model: str
    devices: Devices
    schedule: Schedule
    timeline: Timeline
    ideal_s: float  # per update, if all that can overlap did, without a slowdown


def predict(
    measured: Measured, updates: int, schedules: Sequence[Schedule] = SCHEDULES, seed: int = 0
) -> list[Prediction]:
    """Return the run of each schedule on each split of devices.

    Updates are drawn from those measured, with replacement, the same for every schedule.

    Args:
        measured: at least one update.
        updates: of a run.
        schedules: which; those whose N does not divide the updates are left out.
        seed: of the draws.
    """
    found = []
    pools: dict[Devices, tuple[Work, ...]] = {"whole": measured.whole, "split": measured.split}
    for devices, pool in pools.items():
        if not pool:
            continue
        work = random.Random(seed).choices(pool, k=updates)
        for schedule in schedules:
            if updates % schedule.round_length or (devices == "whole" and not schedule.lock_step):
                continue
            if devices == "whole":
                # One after the other whatever the version: a lag changes nothing but the staleness.
                if schedule.kind == "lag":
                    continue
                timeline = in_turn(schedule, work)
                ideal_s = timeline.update_s
            else:
                timeline = overlapped(schedule, work, measured.slowdown)
                ideal_s = _ideal_s(schedule, work)
            found.append(
                Prediction(
                    model=measured.model,
                    devices=devices,
                    schedule=schedule,
                    timeline=timeline,
                    ideal_s=ideal_s,
                )
            )
    return found


def _ideal_s(schedule: Schedule, work: Sequence[Work]) -> float:
    """Return max(g, t) + s, with s once per round; g + t + s where the two take turns."""
    g, t = mean(one.generate_s for one in work), mean(one.train_s for one in work)
    s = mean(one.load_s + one.publish_s for one in work) / schedule.round_length
    return (g + t if schedule in (ON_POLICY, lag(0), bounded(0), reuse(1)) else max(g, t)) + s


def recommend(predictions: Sequence[Prediction]) -> Prediction:
    """Return the least stale of those that take at most 2% longer than the fastest.

    Of those that are as stale, the fastest.
    """
    fastest = min(one.timeline.update_s for one in predictions)
    good = [one for one in predictions if one.timeline.update_s <= (1 + TIE) * fastest]
    return min(good, key=lambda one: (one.timeline.staleness_mean, one.timeline.update_s))


def table(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """Return one row per prediction of one model, in their order.

    Speed-ups are over taking turns on split devices, and over taking turns with all devices for
    each phase; NaN where that was not measured. ``staleness`` is the share of batches at 0, 1, ...
    """

    def base(devices: Devices) -> float:
        times = [
            one.timeline.update_s
            for one in predictions
            if one.devices == devices and one.schedule == ON_POLICY
        ]
        return times[0] if times else float("nan")

    split_s, whole_s = base("split"), base("whole")
    rows = []
    for one in predictions:
        line = one.timeline
        counts, batches = line.staleness, len(line.batches)
        rows.append(
            {
                "model": one.model,
                "devices": one.devices,
                "schedule": str(one.schedule),
                "update_s": line.update_s,
                "ideal_s": one.ideal_s,
                "speed_up_split": split_s / line.update_s,
                "speed_up_whole": whole_s / line.update_s,
                "ideal": split_s / one.ideal_s,
                "engine_busy": line.engine_busy,
                "learner_busy": line.learner_busy,
                "staleness_mean": line.staleness_mean,
                "staleness_max": max(counts),
                "staleness": [counts[s] / batches for s in range(max(counts) + 1)],
            }
        )
    return pd.DataFrame(rows)


def slowdown_of(alone: Sequence[Work], beside: Sequence[Work]) -> Slowdown:
    """Return how the sides slow each other down, of mean times alone and in overlap.

    In an overlapped update the side that takes less time has the other beside it throughout, and
    the other one has it beside it for that long, o = min(g', t') with times g', t' of overlap. A
    side that took x alone and x' in overlap did its work at full speed for x' - o and at 1/c of it
    for o, so x = x' - o + o / c and

        c = o / (o - (x' - x)),

    at least 1. Loading counts as generation and publishing as training.
    """

    def engine_s(work: Sequence[Work]) -> float:
        return mean(one.generate_s + one.load_s for one in work)

    def learner_s(work: Sequence[Work]) -> float:
        return mean(one.train_s + one.publish_s for one in work)

    together_s = min(engine_s(beside), learner_s(beside))

    def factor(alone_s: float, beside_s: float) -> float:
        return max(1.0, together_s / max(together_s - (beside_s - alone_s), 1e-9))

    return Slowdown(
        factor(engine_s(alone), engine_s(beside)), factor(learner_s(alone), learner_s(beside))
    )
