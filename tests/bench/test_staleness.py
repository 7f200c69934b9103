import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.staleness import ON_POLICY, Schedule, lag, reuse

schedules = st.one_of(
    st.just(ON_POLICY),
    st.integers(1, 70).map(reuse),
    st.integers(0, 70).map(lag),
)


def test_version_at_follows_the_definitions():
    batches = range(7)
    assert [ON_POLICY.version_at(i) for i in batches] == [0, 1, 2, 3, 4, 5, 6]
    # reuse(3): i // 3 * 3, rounds of three batches from one policy
    assert [reuse(3).version_at(i) for i in batches] == [0, 0, 0, 3, 3, 3, 6]
    # lag(2): max(0, i - 2)
    assert [lag(2).version_at(i) for i in batches] == [0, 0, 0, 1, 2, 3, 4]


@given(schedules, st.integers(0, 500))
def test_version_at_is_causal_and_monotone(schedule, i):
    version = schedule.version_at(i)
    assert 0 <= version <= i
    assert schedule.version_at(i + 1) >= version


@given(schedules)
def test_generates_with_names_exactly_the_versions_that_are_used(schedule):
    used = {schedule.version_at(i) for i in range(300)}
    assert used & set(range(200)) == {v for v in range(200) if schedule.generates_with(v)}


@given(st.integers(0, 100))
def test_reuse_1_and_lag_0_are_on_policy(i):
    assert reuse(1).version_at(i) == lag(0).version_at(i) == ON_POLICY.version_at(i)


@given(schedules)
def test_parse_reads_what_str_writes(schedule):
    assert Schedule.parse(str(schedule)) == schedule


@pytest.mark.parametrize("text", ["", "reuse", "lag", "reuse()", "on_policy(1)", "reuse(-1)"])
def test_parse_refuses_anything_else(text):
    with pytest.raises(ValueError, match="allowed are on_policy, reuse"):
        Schedule.parse(text)


def test_schedule_refuses_parameters_out_of_range():
    with pytest.raises(ValueError, match=">= 1"):
        reuse(0)
    with pytest.raises(ValueError, match=">= 0"):
        lag(-1)
