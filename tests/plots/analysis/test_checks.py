import math

import numpy as np
import pytest

from plots.analysis import checks
from plots.analysis.estimands import Effects
from plots.analysis.frames import Record
from tests.plots import simulated, sized, timed
from tests.plots.simulated import GRID


def record(**kwargs):
    return Record.of(*simulated.tables(**kwargs))


def test_failed_checks_pass_a_sound_record():
    assert checks.failed_checks(record(), ["ppo", "online_dpo"], GRID) == []


def test_failed_checks_name_wrong_staleness_and_missing_gain():
    runs, evals, steps = simulated.tables({"ppo": (0.581, 0.0, 5.0)})
    steps.loc[steps["run_id"] == "ppo-8-s0", "staleness"] = 0
    wrong = Record.of(runs, evals, steps)
    assert checks.failed_checks(wrong, ["ppo"], GRID) == [
        "staleness not as scheduled in 1 runs, first ppo-8-s0",
        "ppo shows no clear gain over SFT at N = 1",
    ]
    # A claim about other values of N is not touched.
    assert len(checks.failed_checks(wrong, ["ppo"], (1, 2))) == 1


def test_failed_checks_look_at_each_model_size():
    runs, evals, steps, spans = timed.tables(models=("0.1m", "2m"))
    assert checks.failed_checks(Record.of(runs, evals, steps, spans), ["online_dpo"], [1]) == []
    evals.loc[evals["run_id"].str.startswith("2m"), "win_rate"] = 0.6  # as at first
    assert checks.failed_checks(Record.of(runs, evals, steps, spans), ["online_dpo"], [1]) == [
        "online_dpo shows no clear gain over SFT at N = 1, model 2m"
    ]


def test_failed_checks_look_at_each_arm():
    record = sized.record({("0.1m", "0.1m"): 0.02, ("0.1m", "0.2m"): 0.02}, grid=(1, 2))
    final = record.final
    assert checks.failed_checks(record, ["online_dpo"], [1, 2]) == []
    final.loc[final["reward_model"] == "0.2m", "win_rate"] = 0.58
    name = "online_dpo shows no clear gain over SFT at N = 1, reward model 0.2m"
    assert checks.failed_checks(record, ["online_dpo"], [1, 2]) == [name]
    assert checks.failed_checks(record, ["online_dpo"], [1, 2], gain_at_end=False) == []


def effects(*levels, per_margin=1.0):
    return Effects(np.zeros(5), levels=levels, per_margin=per_margin)


@pytest.mark.parametrize(
    ("levels", "margin", "ceiling", "closed"),
    [
        ((0.95, 0.945), 0.02, 0.96, True),  # both within .02 of .96
        ((0.95, 0.935), 0.02, 0.96, False),  # one is not
        ((0.95, 0.95), 0.02, None, False),  # 1 is the bound of an unknown ceiling
        ((0.99, 0.985), 0.02, None, True),
        ((0.951, 0.955), 0.002, 0.96, True),  # less than .01 is at it whatever the margin
        ((0.949, 0.955), 0.002, 0.96, False),
        ((0.01, 0.015), 0.02, 0.96, True),  # at 0
        ((0.01, 0.025), 0.02, 0.96, False),
        ((0.95, 0.94, 0.955), 0.02, 0.96, True),  # of a slope: all arms count
        ((0.95, 0.94, 0.7), 0.02, 0.96, False),
        ((), 0.02, 0.96, False),  # no win rates, as times
        ((math.nan, 0.95), 0.02, 0.96, False),
    ],
)
def test_saturation_is_all_arms_within_the_margin_of_a_bound(levels, margin, ceiling, closed):
    assert bool(checks.saturation(effects(*levels), margin, ceiling)) == closed


def test_saturation_takes_a_margin_per_doubling_over_all_doublings():
    # .0125 per doubling over 4 doublings is .05 of win rate.
    assert checks.saturation(effects(0.95, 0.915, per_margin=4.0), 0.0125, 0.96) == (
        "all arms are within 0.050 of the ceiling 0.9600, the lowest 0.9150"
    )
    assert checks.saturation(effects(0.95, 0.905, per_margin=4.0), 0.0125, 0.96) == ""
    assert checks.saturation(effects(0.0, 0.001), 0.02, 0.96) == (
        "all arms are within 0.020 of 0, the highest 0.0010"
    )
