from dataclasses import replace

import pandas as pd
import pytest

from bench import paths
from bench.algorithms.base import SearchGrid
from bench.algorithms.online_dpo import OnlineDpo
from bench.algorithms.ppo import Ppo
from bench.algorithms.rloo import Rloo
from bench.experiments import search
from bench.experiments.choice import choose, table
from bench.experiments.presets import preset
from bench.experiments.search import Score, Trial, area, best, beyond, config_of
from bench.experiments.tuned import Tuned
from bench.staleness import ON_POLICY

TINY = preset("tiny")
RATES = (2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4)
SEEDS = (1000, 1001, 1002)


def test_the_grids_of_the_recorded_search():
    assert Ppo.grid == Rloo.grid == SearchGrid("kl_coef", (0.02, 0.05, 0.1, 0.2), RATES)
    assert OnlineDpo.grid == SearchGrid("beta", (0.03, 0.1, 0.3), RATES)
    assert (Ppo.grid.middle, OnlineDpo.grid.middle) == (0.05, 0.1)
    assert search.tuning_seeds(3) == SEEDS


def test_a_trial_is_run_on_policy_on_tuning_prompts_whatever_was_tuned_before():
    assert TINY.tuned["ppo"].learning_rate == 5e-5
    size = {"0.4m": {"ppo": Tuned(learning_rate=1e-3)}}
    for model in (None, "0.4m"):
        config = config_of(replace(TINY, tuned_by_size=size), Trial("ppo", 4e-4, 0.02), 1000, model)
        assert (config.schedule, config.seed, config.learning_rate) == (ON_POLICY, 1000, 4e-4)
        assert config.algorithm == Ppo(completions_per_prompt=2, kl_coef=0.02)
        assert config.stage.model == (model or "0.1m")
        assert (config.evaluation.split, config.evaluation.samples) == ("tuning", 0)
        assert config.evaluation.every == 16  # as the figures' runs: a curve, not an end


def test_area_is_the_mean_over_training_by_the_trapezoid_rule():
    # (1 * (.2 + .6) / 2 + 3 * (.6 + .8) / 2) / 4 = (.4 + 2.1) / 4
    assert area([0, 1, 4], [0.2, 0.6, 0.8]) == pytest.approx(0.625)
    assert area([0, 128], [0.5, 0.9]) == pytest.approx(0.7)


def scripted(rates, coefficients, name="beta"):
    """Return a runner whose area is the sum of what two tables say, and what it was asked.

    The area of seed 1001 is .01 higher for all; the final win rate is the same for all.
    """
    asked = []

    def run(configs):
        asked.append([(c.learning_rate, getattr(c.algorithm, name), c.seed) for c in configs])
        return [
            Score(
                rates.get(c.learning_rate, 0)
                + coefficients.get(getattr(c.algorithm, name), 0)
                + 0.01 * (c.seed == 1001),
                final=0.9,
            )
            for c in configs
        ]

    return run, asked


def test_the_rate_is_searched_at_the_middle_then_the_coefficient_at_the_best_rate():
    rates = dict(zip(RATES, (0.1, 0.2, 0.3, 0.6, 0.5, 0.1), strict=True))
    run, asked = scripted(rates, {0.03: -0.1, 0.1: 0.0, 0.3: -0.05})
    scores = search.search(TINY, ["online_dpo"], run, seeds=SEEDS)
    first, second = asked
    assert first == [(rate, 0.1, seed) for rate in RATES for seed in SEEDS]
    assert second == [(2e-4, beta, seed) for beta in (0.03, 0.3) for seed in SEEDS]
    assert len(scores) == 8
    found = choose(TINY, scores, "online_dpo")
    # Areas .6, .61, .6: mean .60333, standard deviation .0057735, by sqrt(3): .0033333.
    assert (found.value, found.standard_error) == pytest.approx((0.603333, 0.00333333), rel=1e-5)
    assert replace(found, value=None, standard_error=None) == Tuned(
        learning_rate=2e-4, algorithm_params={"beta": 0.1}, metric="area"
    )
    assert found.remarks == ""


def test_a_search_goes_on_beyond_the_end_of_a_grid_until_it_gets_worse():
    # The best of the grid is its last rate; one step beyond is better, the second is not.
    rates = dict(zip((*RATES, 1.6e-3, 3.2e-3), (1, 2, 3, 4, 5, 6, 7, 6.5), strict=True))
    run, asked = scripted(rates, {0.1: 0.2, 0.03: 0.1, 0.3: 0.0})
    scores = search.search(TINY, ["online_dpo"], run, seeds=SEEDS)
    assert [[a[:2] for a in batch[::3]] for batch in asked[1:]] == [
        [(1.6e-3, 0.1)], [(3.2e-3, 0.1)], [(1.6e-3, 0.03), (1.6e-3, 0.3)],
    ]  # fmt: skip
    found = choose(TINY, scores, "online_dpo")
    assert (found.learning_rate, found.at_edge) == (1.6e-3, ())
    assert found.beyond_grid == ("learning_rate",)
    assert found.remarks == "beyond its grid: learning_rate"


def test_a_search_ends_three_steps_beyond_and_says_that_it_is_still_at_the_edge():
    rates = dict.fromkeys(RATES, 0.0) | {1e-4: 1.0}
    coefficients = {0.02: 1, 0.05: 2, 0.1: 3, 0.2: 4, 0.4: 5, 0.8: 6, 1.6: 7, 3.2: 8}
    run, asked = scripted(rates, coefficients, "kl_coef")
    scores = search.search(TINY, ["ppo"], run, seeds=SEEDS)
    assert [batch[0][:2] for batch in asked[2:]] == [(1e-4, 0.4), (1e-4, 0.8), (1e-4, 1.6)]
    found = choose(TINY, scores, "ppo")
    assert found.algorithm_params == {"completions_per_prompt": 2, "kl_coef": 1.6}
    assert (found.at_edge, found.beyond_grid) == (("kl_coef",), ("kl_coef",))
    assert found.remarks == "beyond its grid and still at the edge: kl_coef"


def test_the_lower_end_is_an_end_too_and_algorithms_are_extended_together():
    run, asked = scripted(
        {1.25e-5: 0.5, 6.25e-6: 0.4, 2.5e-5: 0.3}, {0.03: -0.2, 0.3: -0.1, 0.02: 0.1}
    )
    scores = search.search(TINY, ["online_dpo", "copg"], run, seeds=SEEDS)
    assert [a[:2] for a in asked[1][::3]] == [(1.25e-5, 0.1), (1.25e-5, 0.05)]
    assert [a[:2] for a in asked[2][::3]] == [(6.25e-6, 0.1), (6.25e-6, 0.05)]
    assert choose(TINY, scores, "online_dpo").learning_rate == 1.25e-5
    # of CoPG the best coefficient is the smallest, 0.02, then 0.02 * 0.02 / 0.05 = 0.008 is worse
    assert [a[:2] for a in asked[-1][::3]] == [(1.25e-5, 0.008)]
    assert choose(TINY, scores, "copg").algorithm_params == {"beta": 0.02}
    assert choose(TINY, scores, "copg").at_edge == ()


def test_next_to_zero_there_is_no_geometric_step():
    scores = {Trial("ppo", 1e-4, value): [Score(value, 0.5)] * 2 for value in (0.0, 0.05)}
    assert beyond(scores, Trial("ppo", 1e-4, 0.05), "coefficient") is None
    assert beyond(scores, Trial("ppo", 1e-4, 0.0), "coefficient") is None


def test_best_takes_the_smaller_rate_of_equal_ones_then_the_middle_coefficient():
    low, high = Trial("rloo", 5e-5, 0.05), Trial("rloo", 1e-4, 0.05)
    other = Trial("rloo", 5e-5, 0.02)
    same = [Score(0.75, 0.9), Score(0.75, 0.8)]
    assert best({high: same, other: same, low: same}) == low


def test_a_search_of_a_size_trains_that_size():
    models = []

    def run(configs):
        models.extend(config.stage.model for config in configs)
        return [Score(0.5 + config.learning_rate, 0.5) for config in configs]

    scores = search.search(TINY, ["best_of_2"], run, seeds=(1000, 1001), model="0.4m")
    assert set(models) == {"0.4m"}
    assert set(table(TINY, scores, "0.4m")["model"]) == {"0.4m"}


def test_the_recorded_choices_are_the_recorded_trials_of_highest_final_win_rate():
    trials = pd.read_parquet(paths.record_dir("tiny") / "tuning.parquet")
    assert set(trials["algorithm"]) == set(TINY.tuned)
    for name, rows in trials.groupby("algorithm"):
        chosen = TINY.tuned[str(name)]
        assert (chosen.metric, chosen.value) == ("final", None)
        (row,) = rows[rows["chosen"]].to_dict("records")
        assert row["win_rate"] == rows["win_rate"].max()
        assert row["learning_rate"] == chosen.learning_rate
        trial = Trial(str(name), row["learning_rate"], row["coefficient"])
        if trial.grid.coefficient is not None:
            assert chosen.algorithm_params == trial.params(TINY)
