"""Simulated runs against the schedules' own arithmetic, recurrences by hand and a naive clock."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.planning.simulation import Slowdown, Work, in_turn, overlapped
from bench.staleness import ON_POLICY, bounded, lag, reuse

SECONDS = st.floats(0.01, 2.0)
WORK = st.lists(
    st.builds(Work, generate_s=SECONDS, train_s=SECONDS, load_s=SECONDS, publish_s=SECONDS),
    min_size=1,
    max_size=24,
)
LOCK_STEP = st.one_of(st.just(ON_POLICY), st.integers(1, 5).map(reuse), st.integers(0, 4).map(lag))
SLOWDOWN = st.builds(Slowdown, st.floats(1.0, 3.0), st.floats(1.0, 3.0))


def by_clock(schedule, work, slowdown, tick_s):
    """Return the ends of all updates and the versions, by advancing a clock in small steps."""
    now, newest, loaded, engine, learner = 0.0, 0, None, 0.0, 0.0
    made, used, ends = [], [], []
    making = training = False
    last = len(work) - 1

    def wanted(version):
        named = [schedule.version_at(i) for i in range(len(work))]
        return version in named if schedule.lock_step else version <= last

    while len(ends) < len(work):
        if not making and len(made) <= last and schedule.version_at(len(made)) <= newest:
            version = schedule.version_at(len(made)) if schedule.lock_step else newest
            one = work[len(made)]
            engine = one.generate_s + (one.load_s if version != loaded else 0.0)
            making, loaded = True, version
        if not training and len(ends) < len(made):
            one = work[len(ends)]
            learner = one.train_s + (one.publish_s if wanted(len(ends) + 1) else 0.0)
            training = True
        both = making and training
        if making:
            engine -= tick_s / (slowdown.engine if both else 1)
        if training:
            learner -= tick_s / (slowdown.learner if both else 1)
        now += tick_s
        if making and engine <= 1e-9:
            making = False
            made.append(loaded)
        if training and learner <= 1e-9:
            training = False
            used.append(made[len(ends)])
            ends.append(now)
            if wanted(len(ends)):
                newest = len(ends)
    return ends, used


@settings(max_examples=200, deadline=None)
@given(LOCK_STEP, WORK, SLOWDOWN)
def test_staleness_is_the_schedules_whatever_the_times(schedule, work, slowdown):
    expected = [schedule.version_at(i) for i in range(len(work))]
    for line in (overlapped(schedule, work, slowdown), in_turn(schedule, work)):
        assert [batch.version for batch in line.batches] == expected
        assert sum(line.staleness.values()) == len(work)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 4), WORK, SLOWDOWN)
def test_bounded_is_never_staler_than_the_bound_and_never_goes_back(bound, work, slowdown):
    line = overlapped(bounded(bound), work, slowdown)
    versions = [batch.version for batch in line.batches]
    assert all(0 <= i - version <= bound for i, version in enumerate(versions))
    assert versions == sorted(versions)


@settings(max_examples=200, deadline=None)
@given(st.one_of(LOCK_STEP, st.integers(0, 4).map(bounded)), WORK, SLOWDOWN)
def test_nobody_does_two_things_at_a_time_and_no_batch_is_used_before_it_is_made(
    schedule, work, slowdown
):
    batches = overlapped(schedule, work, slowdown).batches
    for one, other in pairwise(batches):
        assert other.generate_start_s >= one.generate_end_s
        assert other.train_start_s >= one.train_end_s
    for batch in batches:
        assert batch.train_start_s >= batch.generate_end_s
        # version v is there when update v - 1 ends
        there = batches[batch.version - 1].train_end_s if batch.version else 0.0
        assert batch.generate_start_s >= there


@settings(max_examples=200, deadline=None)
@given(LOCK_STEP, WORK)
def test_without_a_slowdown_times_follow_the_recurrence_of_two_queues(schedule, work):
    named = [schedule.version_at(i) for i in range(len(work))]
    published, made, ends = {0: 0.0}, 0.0, []
    for i, one in enumerate(work):
        fresh = i == 0 or named[i] != named[i - 1]
        made = max(made, published[named[i]]) + one.generate_s + (one.load_s if fresh else 0.0)
        start = max(made, ends[-1] if ends else 0.0)
        ends.append(start + one.train_s + (one.publish_s if i + 1 in named else 0.0))
        published[i + 1] = ends[-1]
    found = [batch.train_end_s for batch in overlapped(schedule, work).batches]
    assert found == pytest.approx(ends)


@settings(max_examples=30, deadline=None)
@given(
    st.one_of(LOCK_STEP, st.integers(0, 3).map(bounded)),
    st.lists(
        st.builds(
            Work,
            generate_s=st.integers(1, 40).map(lambda ms: ms / 100),
            train_s=st.integers(1, 40).map(lambda ms: ms / 100),
            publish_s=st.integers(0, 5).map(lambda ms: ms / 100),
        ),
        min_size=1,
        max_size=10,
    ),
    st.sampled_from([Slowdown(), Slowdown(2.0, 1.0), Slowdown(1.25, 1.6)]),
)
def test_a_clock_in_small_steps_gives_the_same_run(schedule, work, slowdown):
    tick_s = 1e-3
    ends, versions = by_clock(schedule, work, slowdown, tick_s)
    line = overlapped(schedule, work, slowdown)
    if schedule.lock_step:
        assert [batch.version for batch in line.batches] == versions
        # a clock is late by at most one tick for everything that ends
        late = 2 * tick_s * len(work)
        assert [b.train_end_s for b in line.batches] == pytest.approx(ends, abs=late)
    else:  # a tick may decide which version is the newest
        assert math.isclose(line.staleness_mean, mean_staleness(versions), abs_tol=0.5)


def mean_staleness(versions):
    return sum(i - version for i, version in enumerate(versions)) / len(versions)


def test_three_batches_one_step_off_policy():
    # generation 4, training 3: batch 0 is made at 4, 1 at 8; version 1 is there at 7, so batch 2 is
    # started at 8 and made at 12; the learner trains 4-7, 8-11, 12-15
    line = overlapped(lag(1), [Work(generate_s=4, train_s=3)] * 3)
    assert [b.generate_start_s for b in line.batches] == [0, 4, 8]
    assert [b.train_end_s for b in line.batches] == [7, 11, 15]
    assert line.update_s == 5
    assert line.engine_busy == pytest.approx(12 / 15)
    assert line.learner_busy == pytest.approx(9 / 15)
    assert line.staleness == {0: 1, 1: 2}
    assert line.staleness_mean == pytest.approx(2 / 3)


def test_each_side_is_slower_only_while_the_other_works():
    # batch 0 alone: 0-4. Then both: training takes 2 * 3 = 6, until 10; generation of batch 1
    # does 6 / 1.5 = 4 of its 4 meanwhile, until 10 as well. Batch 1 is trained on alone: 10-13.
    line = overlapped(lag(1), [Work(generate_s=4, train_s=3)] * 2, Slowdown(1.5, 2.0))
    assert [b.generate_end_s for b in line.batches] == [4, 10]
    assert [b.train_end_s for b in line.batches] == [10, 13]


def test_weights_are_loaded_and_published_only_where_a_batch_wants_them():
    one = Work(generate_s=2, train_s=3, load_s=10, publish_s=100)
    # reuse(2): versions 0, 0, 2, 2: loaded for batches 0 and 2, published after update 2
    line = in_turn(reuse(2), [one] * 4)
    assert [b.train_end_s for b in line.batches] == [15, 120, 135, 240]
    # batches 0 and 1 are made at 12 and 14, version 2 is there at 118, batches 2 and 3 are made at
    # 130 and 132; the last version is wanted by no batch
    assert [b.train_end_s for b in overlapped(reuse(2), [one] * 4).batches] == [15, 118, 133, 136]


def test_one_process_cannot_run_freely():
    with pytest.raises(ValueError, match=r"bounded\(2\): runs freely"):
        in_turn(bounded(2), [Work(generate_s=1, train_s=1)])
