import math

import numpy as np
import pandas as pd
import pytest

from plots.analysis import frames
from tests.plots import simulated


def record(**kwargs):
    return frames.Record.of(*simulated.tables(**kwargs))


def test_final_takes_the_last_evaluation_and_the_sft_level():
    runs, evals, _ = simulated.tables(seeds=2)
    frame = frames.final(runs, evals.sample(frac=1, random_state=0))
    row = frame[frame["run_id"] == "ppo-4-s1"].iloc[0]
    last = evals[(evals["run_id"] == "ppo-4-s1") & (evals["step"] == 128)].iloc[0]
    assert len(frame) == 4 * 7 * 2
    assert (row["win_rate"], row["kl_nats"]) == (last["win_rate"], last["kl_nats"])
    assert (row["sft_win_rate"], row["n"], row["status"]) == (0.58, 4, "completed")
    assert row["wall_s"] == 20.0


def test_final_counts_a_diverged_run_at_the_sft_win_rate():
    frame = record(diverged=[("rloo", 64, 3)]).final
    row = frame[frame["status"] == "diverged"].iloc[0]
    assert len(frame[frame["status"] == "diverged"]) == 1
    assert row["win_rate"] == row["sft_win_rate"] == 0.58
    assert math.isnan(row["kl_nats"])


def test_final_has_the_area_under_the_learning_curve():
    runs, evals, _ = simulated.tables({"ppo": (0.9, 0.0, 20.0)}, grid=(1,), seeds=3)
    evals = evals[evals["step"].isin([0, 16, 64, 128])].copy()  # not evenly spaced
    evals["win_rate"] = evals["step"].map({0: 0.6, 16: 0.7, 64: 0.9, 128: 0.8})
    evals = evals[(evals["run_id"] != "ppo-1-s2") | (evals["step"] == 0)]
    runs.loc[1, "status"] = "diverged"
    frame = frames.final(runs, evals.sample(frac=1, random_state=0))
    # (16 x .65 + 48 x .8 + 64 x .85) / 128; the SFT win rate of a diverged run; one evaluation
    assert frame["win_rate_area"].tolist() == pytest.approx([103.2 / 128, 0.6, 0.6])


def test_curves_end_where_a_run_diverged_and_are_in_training_order():
    curves = record(diverged=[("rloo", 64, 3)]).curves
    assert curves[curves["run_id"] == "rloo-64-s3"]["step"].tolist() == [0, 16, 32, 48, 64]
    assert (curves.groupby("run_id")["step"].diff().dropna() > 0).all()


def test_off_schedule_finds_runs_whose_staleness_is_not_n_minus_1_and_below():
    runs, _, steps = simulated.tables(seeds=1)
    assert frames.off_schedule(runs, steps) == []
    steps.loc[steps["run_id"] == "ppo-8-s0", "staleness"] = 0
    steps = steps[steps["run_id"] != "rloo-2-s0"]  # never measured
    assert sorted(frames.off_schedule(runs, steps)) == ["ppo-8-s0", "rloo-2-s0"]


def test_off_schedule_knows_lag():
    runs = pd.DataFrame({"run_id": ["a", "b"], "schedule": ["lag(2)", "on_policy"]})
    steps = pd.DataFrame(
        {"run_id": list("aaaab"), "step": [0, 1, 2, 3, 0], "staleness": [0, 1, 2, 2, 0]}
    )
    assert frames.off_schedule(runs, steps) == []


def test_what_runs_freely_may_be_fresher_than_its_bound_but_not_staler():
    runs = pd.DataFrame({"run_id": ["a", "b"], "schedule": ["bounded(2)"] * 2})
    ages = [0, 0, 1, 2, 0, 0, 1, 3]
    steps = pd.DataFrame({"run_id": list("aaaabbbb"), "step": [0, 1, 2, 3] * 2, "staleness": ages})
    assert frames.off_schedule(runs, steps) == ["b"]


def test_by_n_keeps_only_seeds_with_every_n():
    whole = record()
    gap = ~((whole.final["algorithm"] == "ppo") & (whole.final["n"] == 8)) | (
        whole.final["seed"] != 2
    )
    table = frames.Record(whole.final[gap], whole.curves, frozenset()).by_n("ppo", [1, 8])
    assert table.index.tolist() == [0, 1, 3, 4]
    assert list(table.columns) == [1, 8]
    row = whole.final[(whole.final["run_id"] == "ppo-8-s3")].iloc[0]
    assert table.loc[3, 8] == row["win_rate"]


def test_by_n_refuses_two_arms_in_one_record():
    runs, evals, steps = simulated.tables(seeds=1)
    other = runs.assign(run_id=runs["run_id"] + "x", lr_schedule="per_round")
    both = pd.concat([runs, other])
    more = pd.concat([evals, evals.assign(run_id=evals["run_id"] + "x")])
    mixed = frames.Record.of(both, more, steps)
    with pytest.raises(ValueError, match="ppo, N = 1, seed 0: two runs"):
        mixed.by_n("ppo", [1, 2])
    assert len(mixed.where(lr_schedule="per_update").by_n("ppo", [1, 2])) == 1


def test_by_n_leaves_fixed_lag_out():
    whole = record(seeds=1)
    lagged = frames.Record(whole.final.assign(schedule_kind="lag"), whole.curves, frozenset())
    assert np.size(lagged.by_n("ppo", [1])) == 0
