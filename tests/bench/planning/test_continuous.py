"""The closed form for engines that never stop: literal values, its simulation, published runs."""

import pytest

from bench.planning.continuous import PUBLISHED, Continuous, simulate


def test_the_closed_form_by_hand():
    first, last = PUBLISHED[0][0], PUBLISHED[5][0]
    # 120 * 1.42 / 240 + 0.63
    assert first.staleness_mean == pytest.approx(1.34)
    # 1.45 / 1.14 + (2 + 1.14 - 1) / 2.28 = 1.2719 + 0.9386
    assert last.staleness_mean == pytest.approx(2.2105, abs=1e-4)


@pytest.mark.parametrize(("system", "predicted", "measured"), PUBLISHED)
def test_published_runs_are_simulated(system, predicted, measured):
    found = simulate(system)
    assert found == pytest.approx(system.staleness_mean, rel=0.025)
    # Ratio and tail are published with two digits. Rows 4 and 5, with a queue of one batch and a
    # learner that waits, are published 10% and 7% below the published formula; why is not said.
    stated = system.capacity > 1 or system.ratio > 1
    assert found == pytest.approx(predicted, rel=0.035 if stated else 0.10)
    assert 0.05 <= found - measured <= 0.26


def test_lengths_must_be_possible():
    with pytest.raises(ValueError, match=r"tail = 2\.5: must be 1 to 1\.78"):
        simulate(Continuous(concurrency=8, batch=8, capacity=1, ratio=0.5, tail=2.5))
