"""Weights from the learner to an engine in another process, by model size."""

from __future__ import annotations

from contextlib import closing

import pytest

from bench.handoff import Handoff, checksum
from bench.throughput import workload
from bench.throughput.measure import Meter, Series
from bench.types import WeightSnapshot


@pytest.mark.parametrize("model", ["0.1m", "0.4m", "2m"])
def bench_handoff(measure: Meter, model: str) -> None:
    """Copy, write, read, load and check, as learner and engine do in turn."""
    policy, engine = workload.policy(model), workload.engine(model)
    versions = iter(range(1, 100))
    with closing(Handoff()) as handoff:

        def run() -> None:
            version = next(versions)
            copy = {name: value.detach().clone() for name, value in policy.state_dict().items()}
            written = handoff.write(WeightSnapshot(version, copy))
            engine.load(handoff.read(version))
            assert checksum(engine.model.state_dict()) == written
            handoff.drop_before(version)

        measure("handoff", workload.shape(model=model), Series(name="hf", run=run, limit_s=0.03))
