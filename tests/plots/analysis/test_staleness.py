import numpy as np
import pandas as pd
import pytest

from plots.analysis import ranking, staleness
from plots.analysis.frames import Record
from tests.plots import simulated

SFT = 0.4


def record(cells, **columns):
    """Return a record of final win rates by (algorithm, schedule kind, n), one per seed."""
    rows = [
        {"algorithm": name, "schedule_kind": kind, "n": n, "seed": seed, "win_rate": win,
         "win_rate_area": win, "sft_win_rate": SFT, "epochs": 1,
         "staleness_mean": n if kind == "lag" else (n - 1) / 2,
         "staleness_max": n if kind == "lag" else n - 1, **columns}
        for (name, kind, n), wins in cells.items()
        for seed, win in enumerate(wins)
    ]  # fmt: skip
    return Record(pd.DataFrame(rows), pd.DataFrame(), frozenset())


def test_age_is_in_optimiser_steps_of_which_each_on_a_batch_is_one_more():
    # T = 2, staleness 0 and 1 in turn: steps train on data 0, 1, 2, 3 steps old.
    final = pd.DataFrame({"epochs": [1, 2], "staleness_mean": 0.5, "staleness_max": 1})
    found = staleness.in_steps(final)
    assert found["mean_steps"].tolist() == [0.5, 1.5]
    assert found["max_steps"].tolist() == [1, 3]


def test_staleness_is_that_of_the_steps():
    made = Record.of(*simulated.tables({"ppo": (0.9, 0.1, 20.0)}, grid=(1, 4), seeds=1))
    assert made.final["staleness_mean"].tolist() == [0.0, 1.5]  # 128 updates are whole rounds
    assert made.final["staleness_max"].tolist() == [0, 3]


def test_kept_gain_is_of_the_series_own_fresh_data_whatever_the_kind_of_staleness():
    found = staleness.kept(
        record(
            {
                ("a", "reuse", 1): (0.6, 0.6),
                ("a", "reuse", 4): (0.5, 0.6),  # gains .1 and .2 of .2
                ("a", "lag", 1): (0.55, 0.55),
                ("b", "reuse", 1): (0.4, 0.39),  # no gain
                ("b", "reuse", 4): (0.5, 0.5),
            }
        )
    ).set_index(["algorithm", "schedule_kind", "n"])
    assert set(found.index.get_level_values(0)) == {"a"}
    assert found["kept"].to_dict() == pytest.approx(
        {("a", "reuse", 1): 1.0, ("a", "reuse", 4): 0.75, ("a", "lag", 1): 0.75}
    )
    assert found.loc[("a", "reuse", 4), "mean_steps"] == 1.5
    assert found.loc[("a", "lag", 1), "max_steps"] == 1


def test_means_are_over_the_stale_cells_that_all_series_have():
    made = record(
        {
            ("a", "reuse", 1): (0.9, 0.9),
            ("a", "reuse", 4): (0.5, 0.6),
            ("a", "lag", 4): (0.7, 0.8),  # another cell than reuse(4)
            ("b", "reuse", 4): (0.4, 0.4),
            ("b", "lag", 2): (0.9, 0.9),  # which a has not
        }
    )
    assert staleness.stale_means(made, "win_rate").to_dict("list") == {
        "a": [0.5, 0.6],
        "b": [0.4, 0.4],
    }
    found = ranking.rank(made, ("algorithm",))
    assert found.means == pytest.approx((0.55, 0.4))


def test_slope_of_retained_gain_is_0_where_staleness_is_free():
    flat = {("a", "reuse", n): (0.6, 0.5) for n in (1, 4, 16)}
    found = staleness.retention_slope(record(flat), ["a"], [1, 4, 16])
    assert found.values.tolist() == pytest.approx([0, 0])
    # Gains .2, .1: half is lost over two doublings.
    lost = {("a", "reuse", 1): (0.6, 0.6), ("a", "reuse", 4): (0.5, 0.5)}
    found = staleness.retention_slope(record(lost), ["a"], [1, 4])
    assert found.values.tolist() == pytest.approx([-0.25, -0.25])


def test_earlier_difference_is_of_the_first_half_of_training():
    rows = [
        {"algorithm": name, "schedule_kind": "reuse", "n": 64, "seed": 0, "updates": 4,
         "step": step, "win_rate": win}
        for name, wins in (("a", (0.2, 0.4, 0.6, 0.0, 0.0)), ("b", (0.2, 0.2, 0.2, 0.9, 0.9)))
        for step, win in enumerate(wins)
    ]  # fmt: skip
    made = Record(pd.DataFrame(), pd.DataFrame(rows), frozenset())
    # By trapezoids over steps 0 to 2: .4 against .2.
    found = staleness.earlier_difference(made, ["a", "b"], [64])
    assert found.values.tolist() == pytest.approx([0.2])
    assert found.levels == pytest.approx((0.4, 0.2))


def test_overtaking_is_the_slope_of_the_lead_per_doubling_of_the_batch():
    wins = {"s1": 0.50, "s2": 0.55, "s4": 0.60, "t1": 0.52, "t2": 0.54, "t4": 0.56}
    made = record({(name, "lag", 8): (win, win) for name, win in wins.items()})
    # Leads -.02, .01, .04.
    found = staleness.overtaking_per_octave(made, list(wins), [8])
    assert found.values == pytest.approx(np.array([0.03, 0.03]))
    assert len(staleness.overtaking_per_octave(made, [*[*wins][:5], "none"], [8]).values) == 0
