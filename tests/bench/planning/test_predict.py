"""Predictions: literal values, what is recommended, and how slowdowns are found."""

import math

import pytest

from bench.errors import UserError
from bench.planning.predict import Measured, predict, recommend, slowdown_of, table
from bench.planning.simulation import Slowdown, Work, overlapped
from bench.staleness import ON_POLICY, bounded, lag, reuse

EVEN = Measured(
    model="0.1m",
    split=(Work(generate_s=2.0, train_s=2.0, publish_s=0.5),),
    whole=(Work(generate_s=1.5, train_s=1.5, publish_s=0.1),),
)


def found(measured, updates, schedules):
    return table(predict(measured, updates, schedules)).set_index(["devices", "schedule"])


def test_each_schedule_on_each_split_by_hand():
    rows = found(EVEN, 100, (ON_POLICY, lag(1)))
    # whole: 3.1 s each, the last one publishes, too; split: 4.5 s but for the last, which does not
    assert rows.loc[("whole", "on_policy"), "update_s"] == pytest.approx(3.1)
    assert rows.loc[("split", "on_policy"), "update_s"] == pytest.approx((450 - 0.5) / 100)
    # lag(1) is bound by the learner, 2.5 s each after the first batch; the last two versions are
    # not wanted
    assert rows.loc[("split", "lag(1)"), "update_s"] == pytest.approx((2 + 250 - 1.0) / 100)
    assert rows.loc[("split", "lag(1)"), "speed_up_split"] == pytest.approx(449.5 / 251)
    assert rows.loc[("split", "lag(1)"), "speed_up_whole"] == pytest.approx(310 / 251)
    assert rows.loc[("split", "lag(1)"), "ideal"] == pytest.approx(4.495 / 2.5)
    assert rows.loc[("split", "on_policy"), "ideal"] == pytest.approx(4.495 / 4.5)
    assert rows.loc[("split", "lag(1)"), "staleness"] == pytest.approx([0.01, 0.99])
    assert rows.loc[("split", "lag(1)"), "staleness_max"] == 1
    assert ("whole", "lag(1)") not in rows.index  # as on_policy, but stale


def test_the_ideal_hands_weights_over_once_a_round():
    rows = found(EVEN, 8, (ON_POLICY, reuse(2)))
    # split: (8 * 4.5 - 0.5) / 8 = 4.4375 over max(2, 2) + 0.5 / 2
    assert rows.loc[("split", "reuse(2)"), "ideal"] == pytest.approx(4.4375 / 2.25)


def test_a_schedule_that_is_not_possible_is_left_out():
    rows = found(EVEN, 6, (reuse(4), reuse(3), bounded(2)))
    assert list(rows.index) == [
        ("whole", "reuse(3)"),
        ("split", "reuse(3)"),
        ("split", "bounded(2)"),
    ]


def test_without_split_devices_there_is_nothing_to_gain_against():
    measured = Measured(model="0.1m", whole=EVEN.whole)
    rows = found(measured, 8, (ON_POLICY,))
    assert list(rows.index) == [("whole", "on_policy")]
    assert math.isnan(rows["speed_up_split"].iloc[0])


def test_recommended_is_the_least_stale_of_the_fastest():
    slow_whole = Measured(model="0.1m", split=EVEN.split, whole=(Work(generate_s=4, train_s=4),))
    chosen = recommend(predict(slow_whole, 128))
    assert (chosen.devices, str(chosen.schedule)) == ("split", "lag(1)")
    fast_whole = Measured(model="0.1m", split=EVEN.split, whole=(Work(generate_s=1, train_s=1),))
    chosen = recommend(predict(fast_whole, 128))
    assert (chosen.devices, str(chosen.schedule)) == ("whole", "on_policy")


def test_equal_draws_for_every_schedule():
    spread = Measured(
        model="0.1m", split=tuple(Work(generate_s=g, train_s=1.0) for g in (0.5, 1.0, 1.5))
    )
    one, other = predict(spread, 50, (ON_POLICY, reuse(1)))
    assert one.timeline == other.timeline
    assert predict(spread, 50, (ON_POLICY,), seed=1)[0].timeline != one.timeline


@pytest.mark.parametrize("slowdown", [Slowdown(1.3, 1.1), Slowdown(1.0, 1.0), Slowdown(2.0, 1.5)])
@pytest.mark.parametrize("generate_s", [0.5, 2.0])
def test_slowdowns_are_found_again_from_an_overlapped_run(slowdown, generate_s):
    alone = [Work(generate_s=generate_s, train_s=1.0)] * 40
    batches = overlapped(lag(2), alone, slowdown).batches[5:-5]
    # what each side took, as a source and a learner report it
    beside = [
        Work(
            generate_s=batch.generate_end_s - batch.generate_start_s,
            train_s=batch.train_end_s - batch.train_start_s,
        )
        for batch in batches
    ]
    found = slowdown_of(alone, beside)
    assert found.engine == pytest.approx(slowdown.engine, rel=0.01)
    assert found.learner == pytest.approx(slowdown.learner, rel=0.01)


def test_noise_is_no_speed_up():
    alone, beside = [Work(generate_s=1.0, train_s=1.0)], [Work(generate_s=0.9, train_s=0.9)]
    assert slowdown_of(alone, beside) == Slowdown(1.0, 1.0)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({}, "no update was measured"),
        ({"split": (Work(generate_s=-1, train_s=1),)}, "seconds must not be negative"),
        ({"split": (Work(generate_s=0, train_s=0),)}, "an update must take some time"),
        (
            {"split": (Work(generate_s=1, train_s=1),), "slowdown": Slowdown(0.5, 1)},
            "a slowdown is the time beside the other over the time alone",
        ),
    ],
)
def test_numbers_that_predict_nothing_are_refused(numbers, message):
    with pytest.raises(UserError, match=message):
        Measured(model="0.1m", **numbers)
