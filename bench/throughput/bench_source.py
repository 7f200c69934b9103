"""What a source costs beside the engine's work: prompts, seeds, snapshots, queues, transfer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from bench.assembly import local_launch
from bench.config import Execution
from bench.handoff import Handoff, checksum
from bench.sources import InlineSource, OverlappedSource, Source
from bench.throughput import workload
from bench.throughput.bench_end_to_end import Update
from bench.throughput.measure import Meter, Series
from bench.types import Prompt, Rollouts, Sampling, WeightSnapshot


class NullEngine:
    """Generates at no cost: always the same rollouts."""

    def __init__(self, rollouts: Rollouts) -> None:
        """Hold what is returned."""
        self._rollouts = rollouts
        self._snapshot = WeightSnapshot(0, {})

    @property
    def policy_version(self) -> int:
        """The version taken over last."""
        return self._snapshot.policy_version

    def load(self, snapshot: WeightSnapshot) -> None:
        """Take over a snapshot as it is."""
        self._snapshot = snapshot

    def checksum(self) -> str:
        """Return that of the snapshot."""
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


def overlapped() -> Source:
    """Return a source with its engine in another process, on policy: nothing is done ahead."""
    config, execution = workload.config("online_dpo"), Execution(source="overlapped")
    return OverlappedSource(
        local_launch(partial(NullEngine, workload.rollouts()), execution),
        Handoff(),
        config.schedule,
        workload.stream(),
        workload.sampling(),
        config.seed,
        batches=config.updates,
        execution=execution,
    )


@pytest.mark.parametrize("make", [inline, overlapped], ids=lambda make: make.__name__)
def bench_source(measure: Meter, tmp_path: Path, make: Callable[[], Source]) -> None:
    """Publish a snapshot and take the batch it generates, beside a whole update.

    50 times as fast as the update is 2% of it.
    """
    state = {name: value.clone() for name, value in workload.policy().state_dict().items()}
    versions = iter(range(workload.config("online_dpo").updates))
    update = Update.of(workload.config("online_dpo"), tmp_path)
    with closing(make()) as source:

        def run() -> None:
            source.publish(WeightSnapshot(next(versions), state))
            source.next()

        own = Series(name=f"{make.__name__}_source", run=run)
        whole = Series(name="whole_update", run=update, target=50)
        measure("source", workload.shape("online_dpo"), own, whole)
