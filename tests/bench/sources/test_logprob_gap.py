"""Engines that report no checksum: their log-probs are compared with the learner's."""

import threading
import time
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest
import torch

from bench.engines.hf import HfEngine
from bench.learning.logprob_gap import LogprobGap
from bench.sources import OverlappedSource
from bench.sources.handoff import Handoff, HandoffError
from bench.sources.host import EngineHost
from bench.staleness import ON_POLICY, bounded, reuse
from bench.types import WeightSnapshot

from ...conftest import EOS, PAD
from .. import runs
from ..hosts import EXECUTION, Deaf, InFlightEngine, TagEngine, ThreadWorker, WithoutChecksum
from ..hosts import snapshot as tag


def weights(version):
    """Return policies that are far apart."""
    model = runs.policy()
    torch.manual_seed(version)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3 * bool(version))
    return WeightSnapshot(version, model.state_dict())


def source(schedule, factory, gap, execution=EXECUTION):
    return OverlappedSource(
        lambda directory: ThreadWorker(EngineHost(factory, directory)),
        Handoff(),
        *runs.source_arguments(runs.config(schedule)),
        batches=runs.UPDATES,
        execution=execution,
        logprob_gap=gap,
    )


class Recorded:
    """A gap of 0 or what is told; remembers what was compared: (version, first prompt)."""

    def __init__(self, gaps=None):
        self.asked, self._gaps = [], gaps or {}

    def __call__(self, rollouts, snapshot):
        assert float(snapshot.state["w"][0]) == snapshot.policy_version
        self.asked.append((snapshot.policy_version, rollouts.prompts[0].prompt_id))
        return self._gaps.get(snapshot.policy_version, 0.0)


class Late(TagEngine):
    """Takes over weights once, when the last token of its first batch is sampled."""

    def __init__(self, sampled):
        super().__init__()
        self._sampled = sampled

    def generate_in_flight(self, prompts, sampling, seeds, newer):
        rollouts = self.generate(prompts, sampling, seeds)
        versions = torch.full_like(rollouts.completion_tokens, self.policy_version)
        self._sampled.set()
        while self.policy_version == 0:
            if (snapshot := newer()) is not None:
                self.load(snapshot)
            time.sleep(0.001)
        return replace(rollouts, token_versions=versions)


def hf(wrap):
    return wrap(HfEngine(runs.policy(), pad_token_id=PAD, eos_token_id=EOS))


def test_an_engine_with_the_learners_weights_passes():
    with closing(
        source(ON_POLICY, partial(hf, WithoutChecksum), LogprobGap(runs.policy(), 0.7))
    ) as this:
        for version in range(3):
            this.publish(weights(version))
            batch = this.next()
            assert batch.policy_version == version
            assert "checksum_ok" not in batch.transfer
            assert batch.transfer["handoff_s"] > 0


def test_an_engine_that_ignores_its_weights_stops_the_run():
    with closing(source(ON_POLICY, partial(hf, Deaf), LogprobGap(runs.policy(), 0.7))) as this:
        this.publish(weights(0))
        this.next()  # it has these
        this.publish(weights(1))
        with pytest.raises(
            HandoffError,
            match=r"^the engine's weights are not the learner's: its log-probs for version 1 are "
            r"[1-9]\.\d+ nats per token away, max_logprob_gap_nats = 0.1$",
        ):
            this.next()


@pytest.mark.parametrize(("gap", "passes"), [(0.2, True), (0.21, False), (float("nan"), False)])
def test_the_limit_is_the_executions(gap, passes):
    execution = replace(EXECUTION, max_logprob_gap_nats=0.2)
    with closing(
        source(ON_POLICY, lambda: WithoutChecksum(TagEngine()), Recorded({0: gap}), execution)
    ) as this:
        this.publish(tag(0))
        if passes:
            this.next()
        else:
            with pytest.raises(HandoffError, match="version 0 are"):
                this.next()


def test_the_first_batch_of_each_version_is_compared():
    gap = Recorded()
    firsts = []
    with closing(source(reuse(2), lambda: WithoutChecksum(TagEngine()), gap)) as this:
        for step in range(6):
            if step % 2 == 0:
                this.publish(tag(step))
            firsts.append(this.next().prompts[0].prompt_id)
    assert gap.asked == [(0, firsts[0]), (2, firsts[2]), (4, firsts[4])]


def test_an_engine_with_checksums_is_not_compared():
    gap = Recorded()
    with closing(source(ON_POLICY, TagEngine, gap)) as this:
        this.publish(tag(0))
        this.next()
    assert gap.asked == []


def test_an_engine_without_checksum_cannot_pass_unnoticed():
    with closing(source(ON_POLICY, lambda: WithoutChecksum(TagEngine()), None)) as this:
        this.publish(tag(0))
        with pytest.raises(HandoffError, match="the engine loaded None"):
            this.next()


def test_weights_taken_in_flight_are_compared_in_the_batch_that_they_sampled():
    gap, started, go = Recorded(), threading.Event(), threading.Event()
    with closing(
        source(bounded(1), lambda: WithoutChecksum(InFlightEngine(started, go)), gap)
    ) as this:
        this.publish(tag(0))
        first = this.next().prompts[0].prompt_id
        assert started.wait(60)
        this.publish(tag(1))
        go.set()
        batch = this.next()
        assert batch.token_versions.tolist() == [[0, 1, 1]] * 6
        assert gap.asked == [(0, first), (1, batch.prompts[0].prompt_id)]


def test_weights_that_sampled_no_token_yet_are_compared_in_the_next_batch():
    gap, sampled = Recorded(), threading.Event()
    with closing(source(bounded(1), lambda: WithoutChecksum(Late(sampled)), gap)) as this:
        this.publish(tag(0))
        assert sampled.wait(60)
        this.publish(tag(1))
        first = this.next()
        assert gap.asked == [(0, first.prompts[0].prompt_id)]
        second = this.next()
        assert (first.policy_version, second.policy_version) == (0, 1)
        assert gap.asked[1:] == [(1, second.prompts[0].prompt_id)]


def test_a_free_running_engines_weights_are_kept_until_they_are_compared():
    gap = Recorded()
    with closing(source(bounded(3), lambda: WithoutChecksum(TagEngine()), gap)) as this:
        this.publish(tag(0))  # admits batches 0 to 3
        this.next()
        generated(this, 3)
        this.publish(tag(1))
        generated(this, 4)  # by version 1, which is asked for when version 4 is there
        for version in range(2, 5):
            this.next()
            this.publish(tag(version))
        assert this.next().policy_version == 1
    assert [version for version, _ in gap.asked] == [0, 1]


def generated(this, index):
    """Wait until a batch is there, not yet taken."""
    end = time.monotonic() + 60
    while not this._pending[index][1].done():
        assert time.monotonic() < end
        time.sleep(0.001)
