import pytest

from bench.algorithms.base import SearchGrid
from bench.algorithms.online_dpo import OnlineDpo
from bench.algorithms.ppo import Ppo
from bench.experiments import search
from bench.experiments.presets import preset
from bench.experiments.search import SEEDS, Trial, best, choose, config_of, tied
from bench.experiments.tuned import Tuned
from bench.staleness import ON_POLICY

TINY = preset("tiny")
RATES = (2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4)


def test_the_grids_of_the_recorded_search():
    assert Ppo.grid == SearchGrid("kl_coef", (0.02, 0.05, 0.1), RATES)
    assert OnlineDpo.grid == SearchGrid("beta", (0.03, 0.1, 0.3), RATES)


def test_a_trial_is_run_on_policy_on_tuning_prompts_whatever_was_tuned_before():
    assert TINY.tuned["ppo"].learning_rate == 5e-5
    config = config_of(TINY, Trial("ppo", 4e-4, 0.02), 1000)
    assert (config.schedule, config.seed, config.learning_rate) == (ON_POLICY, 1000, 4e-4)
    assert config.algorithm == Ppo(completions_per_prompt=2, kl_coef=0.02)
    assert config.evaluation.split == "tuning"
    assert config.evaluation.every == config.updates == 128


def scripted(rates, coefficients):
    """Return a runner whose win rate is the sum of what two tables say, and what it was asked."""
    asked = []

    def run(configs):
        asked.append([(c.learning_rate, c.algorithm.beta, c.seed) for c in configs])
        return [rates[c.learning_rate] + coefficients[c.algorithm.beta] for c in configs]

    return run, asked


def test_the_rate_is_searched_at_the_middle_then_the_coefficient_at_the_best_rate():
    rates = dict(zip(RATES, (0.1, 0.2, 0.3, 0.6, 0.5, 0.1), strict=True))
    run, asked = scripted(rates, {0.03: 0.05, 0.1: 0.0, 0.3: -0.1})
    scores = search.search(TINY, ["online_dpo"], run)
    first, second = asked
    assert first == [(rate, 0.1, seed) for rate in RATES for seed in SEEDS]
    assert second == [(2e-4, beta, seed) for beta in (0.03, 0.3) for seed in SEEDS]
    assert len(scores) == 8
    found = choose(TINY, scores, "online_dpo")
    # 0.65 at the smallest beta, the middle one 0.05 below: standard error of the difference at
    # 2 x 512 prompts sqrt((.65 * .35 + .6 * .4) / 1024) = .0214, two of them .0427 < .05
    assert found == Tuned(
        learning_rate=2e-4, algorithm_params={"beta": 0.03}, at_edge=("beta",), tied_with=()
    )


def test_neighbours_that_cannot_be_told_apart_are_ties_and_an_end_is_an_edge():
    rates = dict(zip(RATES, (0.6, 0.59, 0.3, 0.2, 0.1, 0.1), strict=True))
    run, _ = scripted(rates, {0.03: -0.2, 0.1: 0.0, 0.3: 0.0})
    found = choose(TINY, search.search(TINY, ["online_dpo"], run), "online_dpo")
    # of the equal coefficients the middle one
    assert (found.learning_rate, found.algorithm_params) == (2.5e-5, {"beta": 0.1})
    assert found.at_edge == ("learning_rate",)
    assert found.tied_with == ("learning_rate = 5e-05", "beta = 0.3")
    assert found.remarks == (
        "at the edge of its grid: learning_rate; tied with learning_rate = 5e-05, beta = 0.3"
    )


def test_tied_is_two_standard_errors_of_the_difference():
    # p = .5 twice, 200 rows: sqrt(.25 / 200 * 2) = .05, so .1 is the limit
    assert tied([0.45, 0.45], [0.549, 0.549], prompts=100)
    assert not tied([0.45, 0.45], [0.56, 0.56], prompts=100)
    assert tied([1.0], [1.0], prompts=100)


def test_best_takes_the_smaller_rate_of_equal_ones():
    low, high = Trial("rloo", 5e-5, 0.05), Trial("rloo", 1e-4, 0.05)
    assert best({high: [0.9, 0.7], low: [0.8, 0.8]}) == low


def test_the_recorded_choices_follow_from_the_recorded_trials():
    import pandas as pd

    from bench import paths

    table = pd.read_parquet(paths.record_dir("tiny") / "tuning.parquet")
    for name, rows in table.groupby("algorithm"):
        scores = {
            Trial(
                str(name),
                row.learning_rate,
                None if pd.isna(row.coefficient) else row.coefficient,
            ): [row.win_rate_min, row.win_rate_max]  # both seeds
            for row in rows.itertuples()
        }
        assert choose(TINY, scores, str(name)) == TINY.tuned[str(name)]


@pytest.mark.parametrize("name", ["ppo", "best_of_2"])
def test_table_marks_one_choice_per_algorithm(name):
    scores = {trial: [0.5, 0.7] for trial in search.first_pass(name)}
    table = search.table(TINY, scores)
    assert table["chosen"].sum() == 1
    row = table[table["chosen"]].iloc[0]
    assert (row["learning_rate"], row["win_rate"]) == (2.5e-5, pytest.approx(0.6))
    assert (row["win_rate_min"], row["win_rate_max"], row["n_seeds"]) == (0.5, 0.7, 2)
