"""Weights from the learner to an engine in another process, by model size."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial

import pytest

from bench.sources.handoff import Handoff, checksum
from bench.throughput import served, workload
from bench.throughput.measure import Meter, Series
from bench.types import WeightSnapshot


@pytest.mark.parametrize("model", workload.MODELS)
def bench_handoff(measure: Meter, model: str) -> None:
    """Copy, write, read, load and check, as learner and engine do in turn."""
    policy, engine, vllm = workload.policy(model), workload.engine(model), served.vllm(model)
    versions = iter(range(1, 100))
    with closing(Handoff()) as handoff:

        def through(load: Callable[[int], str]) -> None:
            version = next(versions)
            copy = {name: value.detach().clone() for name, value in policy.state_dict().items()}
            written = handoff.write(WeightSnapshot(version, copy))
            assert load(version) == written
            handoff.drop_before(version)

        def by_hf(version: int) -> str:
            engine.load(handoff.read(version))
            return checksum(engine.model.state_dict())

        own = Series(name="hf", run=partial(through, by_hf), limit_s=0.03)
        others = []
        if vllm is not None:

            def by_vllm(version: int) -> str:
                found: str = vllm.submit("take", handoff.directory, version).result(300)
                return found

            others.append(Series(name="vllm", run=partial(through, by_vllm), limit_s=0.15))
        measure("handoff", workload.shape(model=model), own, *others)
