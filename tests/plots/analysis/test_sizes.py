from dataclasses import replace

import numpy as np
import pytest

from plots.analysis import sizes
from plots.analysis.frames import Record
from tests.plots import sized
from tests.plots.simulated import GRID

DPO = ("online_dpo",)


def test_a_sweep_changes_one_size_and_holds_the_other_where_most_sizes_are():
    record = sized.record(seeds=1, grid=(1,))
    policies, rewards = sizes.arms(record, "model"), sizes.arms(record, "reward_model")
    assert list(policies) == ["0.1m", "0.2m", "0.8m"]
    assert list(rewards) == ["0.1m", "0.2m", "0.8m"]
    for arm in policies.values():
        assert arm.final["reward_model"].tolist() == ["0.2m"]
    for arm in rewards.values():
        assert arm.final["model"].tolist() == ["0.1m"]


def test_sizes_are_in_order_of_their_parameters_not_of_their_names():
    record = sized.record({("2.8b", "1b"): 0.1, ("410m", "1b"): 0.1, ("1b", "1b"): 0.1}, seeds=1)
    assert list(sizes.arms(record, "model")) == ["410m", "1b", "2.8b"]


def test_policy_size_interaction_by_hand():
    # Slopes of the retained gain are -.06, -.05, -.01 at log2 sizes 0, 1, 3 (from the smallest).
    # Their means are -.04 and 4/3; Sxy = (-4/3)(-.02) + (-1/3)(-.01) + (5/3)(.03) = .08 and
    # Sxx = (16 + 1 + 25) / 9 = 14/3, so that over 3 doublings the slope changes by 3 x .08 x 3/14.
    found = sizes.policy_size_interaction(sized.record(noise=0.0), DPO, GRID)
    assert found.values == pytest.approx([0.72 / 14] * 5)
    assert found.seeds == (0, 1, 2, 3, 4)
    # every N of every size, from .58 + .30 (1 - lost log2 N); a margin counts per doubling of N
    assert len(found.levels) == 3 * 7
    assert (found.levels[0], found.levels[6]) == pytest.approx((0.88, 0.88 - 0.30 * 0.36))
    assert found.per_margin == pytest.approx(6 * 0.30)


def test_reward_size_interaction_by_hand():
    # -.06, -.06, -.05: Sxy = (4/3)(.01/3) + (1/3)(.01/3) + (5/3)(.02/3) = .05 / 3
    found = sizes.reward_size_interaction(sized.record(noise=0.0), DPO, (1, 2, 4))
    assert found.values == pytest.approx([3 * (0.05 / 3) * 3 / 14] * 5)


def test_the_mean_interaction_is_that_of_the_mean_slopes():
    # The oracle fits lines by numpy to the means over seeds: their ratio is what the delta method
    # keeps exactly.
    record = sized.record(noise=0.02)
    x, by_size = np.log2(GRID), []
    for size in ("0.1m", "0.2m", "0.8m"):
        runs = record.where(model=size, reward_model="0.2m").final
        means = runs.groupby("n")["win_rate"].mean().to_numpy()
        by_size.append(np.polyfit(x, means, 1)[0] / (means[0] - 0.58))
    expected = 3 * np.polyfit([0, 1, 3], by_size, 1)[0]
    found = sizes.policy_size_interaction(record, DPO, GRID)
    assert found.values.mean() == pytest.approx(expected)


def test_a_seed_counts_if_it_has_every_n_of_every_size():
    record = sized.record(grid=(1, 2))
    kept = record.final["run_id"] != "0.8m-0.2m-online_dpo-2-s3"
    found = sizes.policy_size_interaction(replace(record, final=record.final[kept]), DPO, (1, 2))
    assert found.seeds == (0, 1, 2, 4)


@pytest.mark.parametrize(
    "estimand",
    [
        sizes.policy_size_interaction,
        sizes.reward_size_interaction,
        sizes.reward_size_at_matched_kl,
    ],
)
def test_one_size_or_none_has_no_effect(estimand):
    alone = sized.record({("0.1m", "0.1m"): 0.1}, seeds=2, grid=(1, 2))
    assert len(estimand(alone, DPO, (1, 2)).values) == 0
    assert len(estimand(alone, ("ppo",), (1, 2)).values) == 0
    two = sized.record({("0.1m", "0.1m"): 0.1, ("0.2m", "0.1m"): 0.1}, seeds=2, grid=(1, 2))
    assert len(sizes.policy_size_interaction(two, DPO, (1, 8)).values) == 0


def better_by_size(record: Record) -> Record:
    """Return the record with .01 added to the win rate per doubling of the reward model's size."""
    curves = record.curves.copy()
    doublings = np.log2(curves["reward_model"].str.rstrip("m").astype(float) / 0.1)
    curves["win_rate"] += 0.01 * doublings * (curves["step"] > 0)
    return replace(record, curves=curves)


def test_reward_size_at_matched_kl_sees_a_higher_frontier():
    # .01 per doubling at every KL above 0, over the 3 doublings from 0.1m to 0.8m
    record = better_by_size(sized.record(noise=0.0))
    found = sizes.reward_size_at_matched_kl(record, DPO, (1,))
    assert found.values.mean() == pytest.approx(0.03, abs=0.006)
    assert len(found.levels) == 3
    assert "where 0.1m gains" in found.note
    assert found.failure == ""


def test_reward_size_at_matched_kl_is_near_zero_on_one_frontier():
    found = sizes.reward_size_at_matched_kl(sized.record(noise=0.0), DPO, (1,))
    assert found.values.mean() == pytest.approx(0.0, abs=0.004)
