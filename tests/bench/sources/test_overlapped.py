"""The overlapped source against the inline one, with an engine that tags what it generates."""

import random
import threading
import time
from contextlib import closing
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.processes.shared_memory import SHARED_MEMORY
from bench.randomness import PromptStream
from bench.sources import InlineSource, OverlappedSource
from bench.sources.handoff import Handoff, HandoffError
from bench.staleness import ON_POLICY, bounded, lag, reuse
from bench.types import Prompt, Sampling

from ..hosts import (
    EXECUTION,
    InFlightEngine,
    LyingEngine,
    SlowHost,
    TagEngine,
    ThreadWorker,
    snapshot,
)

SAMPLING = Sampling(1.0, 3, 2)
lock_step = st.one_of(st.just(ON_POLICY), st.integers(1, 5).map(reuse), st.integers(0, 4).map(lag))


def stream(updates):
    return PromptStream([Prompt(i, (i,)) for i in range(3 * updates)], 3, seed=0)


def overlapped(schedule, updates, *, engine=TagEngine, delay_s=0.0, seed=0):
    """Return a source and the calls that its host was given."""
    calls = []

    class Host(SlowHost):
        def generate(self, call):
            calls.append(call)
            return super().generate(call)

    source = OverlappedSource(
        lambda directory: ThreadWorker(Host(engine, directory, delay_s, seed)),
        Handoff(),
        schedule,
        stream(updates),
        SAMPLING,
        seed=5,
        batches=updates,
        execution=EXECUTION,
    )
    return source, calls


def drive(source, updates, delay_s=0.0, seed=0):
    """Run the loop with a learner that only takes time; return the batches and their staleness."""
    delays = random.Random(seed)
    batches = []
    try:
        source.publish(snapshot(0))
        for step in range(updates):
            batches.append(source.next())
            time.sleep(delay_s * delays.random())
            if source.wants(step + 1):
                source.publish(snapshot(step + 1))
    finally:
        source.close()
    return batches, [step - batch.policy_version for step, batch in enumerate(batches)]


@settings(max_examples=25, deadline=None)
@given(lock_step, st.integers(1, 12), st.integers(0, 99), st.floats(0, 0.003), st.floats(0, 0.003))
def test_lock_step_batches_are_those_of_the_inline_source(
    schedule, updates, seed, engine_s, learner_s
):
    inline = InlineSource(TagEngine(), schedule, stream(updates), SAMPLING, seed=5)
    expected, _ = drive(inline, updates)
    source, calls = overlapped(schedule, updates, delay_s=engine_s, seed=seed)
    found, _ = drive(source, updates, learner_s, seed)
    for one, other in zip(found, expected, strict=True):
        assert one.policy_version == other.policy_version
        assert one.prompts == other.prompts
        assert one.completion_tokens.tolist() == other.completion_tokens.tolist()
        assert one.logprobs.tolist() == other.logprobs.tolist()
    assert [call.index for call in calls] == list(range(updates))  # none lost, repeated, in vain


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 4),
    st.integers(1, 16),
    st.integers(0, 99),
    st.floats(0, 0.004),
    st.floats(0, 0.004),
)
def test_bounded_batches_are_never_staler_than_the_bound(bound, updates, seed, engine_s, learner_s):
    source, calls = overlapped(bounded(bound), updates, delay_s=engine_s, seed=seed)
    batches, staleness = drive(source, updates, learner_s, seed)
    assert all(0 <= s <= bound for s in staleness)
    # The version a batch carries is that of the weights that made it, and it never decreases.
    versions = [batch.policy_version for batch in batches]
    assert versions == [int(batch.completion_tokens[0, 0]) for batch in batches]
    assert versions == sorted(versions)
    trained = [prompt.prompt_id for batch in batches for prompt in batch.prompts]
    assert sorted(trained) == list(range(3 * updates))  # every prompt exactly once
    assert [call.index for call in calls] == list(range(updates))


def test_bounded_takes_the_newest_weights_when_the_learner_is_ahead():
    source, calls = overlapped(bounded(3), 6)
    source.publish(snapshot(0))
    first = source.next()
    while len(calls) < 4:  # S + 1 = 4 batches are admitted by version 0, a fifth is not
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(calls) == 4
    source.publish(snapshot(1))
    source.publish(snapshot(2))  # batches 4 and 5 are started after this or the one before
    versions = [first.policy_version, *(source.next().policy_version for _ in range(5))]
    assert versions[:4] == [0, 0, 0, 0]
    assert versions[4] >= 1
    assert versions[5] == 2
    source.close()


def updated_in_flight(schedule, lie=0.0):
    """Return a source whose engine gets version 1 while it generates batch 1."""
    started, go = threading.Event(), threading.Event()
    source, _ = overlapped(schedule, 4, engine=partial(InFlightEngine, started, go, lie))
    source.publish(snapshot(0))
    source.next()
    if schedule.lock_step:
        source.publish(snapshot(1))
        assert started.wait(60)
    else:
        assert started.wait(60)
        source.publish(snapshot(1))
    go.set()
    return source


def test_a_free_running_engine_takes_new_weights_between_two_tokens():
    with closing(updated_in_flight(bounded(1))) as source:
        batch = source.next()
        # The first token is version 0's, the others version 1's, at use the learner is version 1.
        assert batch.token_versions.tolist() == [[0, 1, 1]] * 6
        assert batch.policy_version == 0
        assert batch.transfer["token_staleness_mean"] == pytest.approx(1 / 3)
        assert source.next().token_versions.tolist() == [[1, 1, 1]] * 6


def test_weights_taken_in_flight_are_verified_too():
    with (
        closing(updated_in_flight(bounded(1), lie=1.0)) as source,
        pytest.raises(HandoffError, match="version 1 has checksum"),
    ):
        source.next()


def test_in_lock_step_no_weights_are_taken_in_flight():
    with closing(updated_in_flight(ON_POLICY)) as source:
        batch = source.next()
        assert batch.token_versions is None
        assert batch.policy_version == 1


def test_generation_is_ahead_of_the_learner_by_what_the_schedule_allows():
    for schedule, ahead in ((ON_POLICY, 1), (reuse(4), 4), (lag(2), 3), (bounded(2), 3)):
        source, calls = overlapped(schedule, 12)
        source.publish(snapshot(0))
        end = time.monotonic() + 10
        while len(calls) < ahead and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.02)
        assert len(calls) == ahead
        source.close()


def test_versions_that_generate_nothing_are_not_wanted():
    def wanted(schedule):
        source, _ = overlapped(schedule, 6)
        source.close()
        return [version for version in range(8) if source.wants(version)]

    assert wanted(ON_POLICY) == [0, 1, 2, 3, 4, 5]
    assert wanted(reuse(3)) == [0, 3]
    assert wanted(lag(2)) == [0, 1, 2, 3]  # version 3 generates batch 5, the last
    assert wanted(bounded(2)) == [0, 1, 2, 3, 4, 5]


def test_only_snapshots_that_are_still_needed_are_kept():
    source, _ = overlapped(lag(2), 12)
    for version in range(6):
        source.publish(snapshot(version))
        source.next()
    source.publish(snapshot(6))  # the next batch is 6, by version 4
    assert [kept.policy_version for kept in source.snapshots()] == [4, 5, 6]
    source.close()


@pytest.mark.parametrize("schedule", [ON_POLICY, reuse(3), lag(2)])
@pytest.mark.parametrize("at", [1, 4, 5])
def test_a_resumed_source_goes_on_with_the_same_batches(schedule, at):
    expected, _ = drive(overlapped(schedule, 9)[0], 9)
    source, _ = overlapped(schedule, 9)
    source.publish(snapshot(0))
    for step in range(at):
        source.next()
        if source.wants(step + 1):
            source.publish(snapshot(step + 1))
    kept = source.snapshots()
    resumed, calls = overlapped(schedule, 9)
    resumed.resume(at, kept)
    source.close()
    found = []
    for step in range(at, 9):
        found.append(resumed.next())
        if resumed.wants(step + 1):
            resumed.publish(snapshot(step + 1))
    resumed.close()
    tokens = [batch.completion_tokens.tolist() for batch in found]
    assert tokens == [batch.completion_tokens.tolist() for batch in expected[at:]]
    assert [call.index for call in calls] == list(range(at, 9))


def test_weights_that_are_not_the_learners_stop_the_run():
    source, _ = overlapped(ON_POLICY, 6, engine=LyingEngine)
    source.publish(snapshot(0))
    source.next()
    source.publish(snapshot(1))
    assert source.next().transfer["checksum_ok"] == 1.0
    source.publish(snapshot(2))
    with pytest.raises(HandoffError, match=r"version 2 has checksum \w+, the engine loaded \w+$"):
        source.next()
    source.close()


def test_handoff_time_is_reported_where_weights_were_loaded():
    source, _ = overlapped(reuse(2), 4)
    batches, _ = drive(source, 4)
    loaded = [batch.transfer["handoff_s"] > 0 for batch in batches]
    assert loaded == [True, False, True, False]


def test_spans_of_both_processes_tell_one_story():
    updates = 6
    source, _ = overlapped(lag(1), updates, delay_s=0.002)
    start = time.perf_counter()
    drive(source, updates, 0.002)
    end = time.perf_counter()
    by_name = {
        name: [s for s in source.spans if s.name == name] for name in ("load", "generate", "wait")
    }
    assert [s.step for s in by_name["generate"]] == list(range(updates))
    assert [s.step for s in by_name["wait"]] == list(range(updates))
    # version_at is 0, 0, 1, 2, 3, 4: batch 1 needs no load
    assert [s.step for s in by_name["load"]] == [0, 2, 3, 4, 5]
    assert {s.process for s in by_name["generate"]} == {"engine"}
    assert all(start <= s.start_s <= s.end_s <= end for s in source.spans)
    for generated, waited in zip(by_name["generate"], by_name["wait"], strict=True):
        assert generated.end_s <= waited.end_s  # a batch is not had before it is generated


def test_next_without_the_version_fails():
    source, _ = overlapped(ON_POLICY, 2)
    with pytest.raises(KeyError):
        source.next()
    source.close()


def test_nothing_is_left_in_shared_memory():
    source, _ = overlapped(lag(1), 4)
    directory = source._handoff.directory
    assert directory.parent == SHARED_MEMORY
    drive(source, 4)
    assert not directory.exists()
