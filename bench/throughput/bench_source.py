"""The overhead of a source without generation: prompts, seeds, snapshots, queues, transfer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from bench.assembly import local_launch
from bench.config import Execution
from bench.sources import InlineSource, OverlappedSource, Source
from bench.sources.handoff import Handoff, checksum
from bench.staleness import ON_POLICY, Schedule, lag
from bench.throughput import workload
from bench.throughput.bench_end_to_end import Update
from bench.throughput.measure import Meter, Series
from bench.types import Prompt, Rollouts, Sampling, WeightSnapshot


class NullEngine:
    """Returns the same rollouts every time, at no cost."""

    def __init__(self, rollouts: Rollouts) -> None:
        """Keep the rollouts to return."""
        self._rollouts = rollouts
        self._snapshot = WeightSnapshot(0, {})

    @property
    def policy_version(self) -> int:
        """The version loaded last."""
        return self._snapshot.policy_version

    def load(self, snapshot: WeightSnapshot) -> None:
        """Take over a snapshot as it is."""
        self._snapshot = snapshot

    def checksum(self) -> str:
        """Return the checksum of the snapshot."""
        return checksum(self._snapshot.state)

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> Rollouts:
        """Return the rollouts."""
        del prompts, sampling, seeds
        return self._rollouts


def inline() -> Source:
    """Return a source in this process."""
    config, stream = workload.config("online_dpo"), workload.stream()
    engine = NullEngine(workload.rollouts())
    return InlineSource(engine, config.schedule, stream, workload.sampling(), config.seed)


def overlapped(schedule: Schedule) -> Source:
    """Return a source with its engine in another process."""
    config, execution = workload.config("online_dpo"), Execution(source="overlapped")
    return OverlappedSource(
        local_launch(partial(NullEngine, workload.rollouts()), execution),
        Handoff(),
        schedule,
        workload.stream(),
        workload.sampling(),
        config.seed,
        batches=config.updates,
        execution=execution,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "make", "target"),
    [
        ("inline", inline, 50),
        ("overlapped", partial(overlapped, lag(1)), 50),
        ("overlapped_round_trip", partial(overlapped, ON_POLICY), None),
    ],
)
def bench_source(
    measure: Meter, tmp_path: Path, name: str, make: Callable[[], Source], target: float | None
) -> None:
    """Publish a snapshot and take a batch, beside a whole update: 50 times as fast is 2% of it.

    One step off-policy the batch is there already: the time is the learner's loss. On-policy the
    batch needs the snapshot just published: the time is that of a round trip, with the hand-off
    of the weights.
    """
    state = {name: value.clone() for name, value in workload.policy().state_dict().items()}
    versions = iter(range(workload.config("online_dpo").updates))
    update = Update.of(workload.config("online_dpo"), tmp_path)
    with closing(make()) as source:

        def run() -> None:
            source.publish(WeightSnapshot(next(versions), state))
            source.next()

        own = Series(name=name, run=run)
        whole = Series(name="whole_update", run=update, target=target)
        measure("source", workload.shape("online_dpo"), own, whole)
