import math

import pytest

from plots.analysis import targets
from plots.analysis.frames import Record
from tests.plots import simulated

STEPS = [0, 16, 32, 48]
WINS = [0.6, 0.7, 0.9, 0.8]


@pytest.mark.parametrize(
    ("target", "updates"),
    [
        (0.65, 8.0),  # half of the way from 0 to 16
        (0.7, 16.0),
        (0.75, 20.0),  # a quarter of the way from 16 to 32
        (0.85, 28.0),  # on the way up, not where it has fallen again
        (0.9, 32.0),
        (0.6, 0.0),
        (0.5, 0.0),  # there from the start
    ],
)
def test_updates_to_is_linear_between_evaluations(target, updates):
    assert targets.updates_to(STEPS, WINS, target) == pytest.approx(updates)


def test_updates_to_what_is_never_reached_is_nan():
    assert math.isnan(targets.updates_to(STEPS, WINS, 0.91))


def record(**kwargs):
    return Record.of(*simulated.tables({"ppo": (0.9, 0.1, 20.0)}, noise=0.0, **kwargs))


def test_updates_to_half_of_the_best_gain_on_fresh_data():
    losses = {"ppo": (0.9, 0.1, 20.0), "rloo": (0.92, 0.1, 20.0)}
    tables = simulated.tables(losses, noise=0.0, grid=(1, 64), seeds=2, diverged=[("ppo", 64, 1)])
    found = targets.updates_to_target(Record.of(*tables)).set_index("run_id")
    assert found["target"].tolist() == pytest.approx([0.75] * 8)  # RLOO: half of .58 to .92
    # PPO, N = 1: .58 + .32 (1 - (1 - t)^2) at t = 2/8, 3/8 of 128 updates: .72, .775.
    assert found.loc["ppo-1-s0", "updates"] == pytest.approx(32 + 16 * 0.03 / 0.055)
    # N = 64 ends at .58 + .32 x .4 = .708: censored at the last update.
    assert math.isnan(found.loc["ppo-64-s0", "updates"])
    assert found.loc["ppo-64-s0", "last"] == 128
    assert found.loc["ppo-64-s1", "last"] == 64  # diverged


def test_updates_to_a_given_target_need_no_fresh_data():
    one = record(grid=(2,), seeds=1)
    assert targets.updates_to_target(one).empty
    # N = 2: .58 + .32 x .9 (1 - (1 - t)^2) at t = 2/8: .706
    assert targets.updates_to_target(one, 0.706)["updates"].tolist() == pytest.approx([32.0])


@pytest.mark.parametrize(
    ("updates", "text"),
    [
        ([10.0, 30.0, 20.0], "20"),
        ([10.0, 20.0, math.nan], "20 (2 of 3)"),
        ([10.0, math.nan, math.nan], "> 128 (1 of 3)"),
        ([math.nan] * 3, "> 128 (0 of 3)"),
    ],
)
def test_median_text_says_what_is_censored(updates, text):
    assert targets.median_text(updates, 128) == text
