import math

import pandas as pd
import pytest

from plots.analysis.frames import Record
from reproductions.comparison import compare_beside, differences, summary


def by_seed(*values):
    return pd.Series(values, index=range(len(values)), dtype=float)


def test_a_difference_is_measured_by_the_spread_of_the_recorded_seeds():
    """Spread of .50, .52, .54 is .02; t(2) = 4.302653; within = t .02 sqrt(2 / 3) = .070262."""
    recorded = by_seed(0.50, 0.52, 0.54)
    found = differences(by_seed(0.57, 0.59, 0.61), recorded)
    assert found["difference"] == pytest.approx(0.07)
    assert found["spread"] == pytest.approx(0.02)
    assert found["within"] == pytest.approx(0.070262, abs=1e-6)
    assert found["verdict"] == "agrees"
    assert differences(by_seed(0.571, 0.591, 0.611), recorded)["verdict"] == "differs"


def test_of_one_common_seed_the_band_is_wider():
    """within = 4.302653 x .02 x sqrt(2) = .121697."""
    found = differences(by_seed(0.62), by_seed(0.50, 0.52, 0.54))
    assert found["difference"] == pytest.approx(0.12)
    assert found["within"] == pytest.approx(0.121697, abs=1e-6)
    assert found["verdict"] == "agrees"


def test_what_cannot_be_said_is_not_said():
    assert differences(by_seed(0.5), by_seed(0.5))["verdict"] == "one recorded seed"
    apart = differences(pd.Series([0.5], index=[7]), by_seed(0.5, 0.6))
    assert apart["verdict"] == "no seed in common"
    assert math.isnan(apart["difference"])


def record(rows):
    columns = ["algorithm", "model", "schedule", "config_hash", "seed", "win_rate"]
    return Record(pd.DataFrame(rows, columns=columns), pd.DataFrame(), frozenset())


def test_compare_beside_finds_the_recorded_cell_of_the_same_setting():
    recorded = record([
        ("ppo", "0.1m", "reuse(4)", "a", 0, 0.80), ("ppo", "0.1m", "reuse(4)", "a", 1, 0.82),
        ("ppo", "0.1m", "reuse(8)", "b", 0, 0.10), ("ppo", "0.4m", "reuse(4)", "c", 0, 0.20),
    ])  # fmt: skip
    others = record([
        ("ppo (mine)", "0.1m", "reuse(4)", "x", 0, 0.81),
        ("ppo (mine)", "0.1m", "reuse(4)", "x", 1, 0.83),
        ("grpo (mine)", "0.1m", "reuse(4)", "y", 0, 0.90),
    ])  # fmt: skip
    found = compare_beside(others, recorded).set_index("cell")
    ppo = found.loc["ppo (mine) 0.1m reuse(4)"]
    assert ppo[["win_rate", "recorded", "difference"]].tolist() == pytest.approx([0.82, 0.81, 0.01])
    assert ppo["verdict"] == "agrees"
    assert found.loc["grpo (mine) 0.1m reuse(4)", "verdict"] == "not in the record"
    assert summary(found).startswith("2 cells, agrees: 1, not in the record: 1.")
