import pytest

from bench.experiments.choice import choose, pick, table, tied
from bench.experiments.presets import preset
from bench.experiments.search import Score, Trial

TINY = preset("tiny")


def scores(**areas):
    """Areas by coefficient, one per seed, all at one rate."""
    return {
        Trial("rloo", 1e-4, float(name[1:]) / 100): [Score(area, 0.5) for area in values]
        for name, values in areas.items()
    }


def test_the_area_decides_where_the_final_win_rate_says_otherwise():
    trials = [Trial("best_of_2", rate, None) for rate in (5e-5, 1e-4, 2e-4)]
    areas, finals = (0.70, 0.80, 0.75), (0.96, 0.94, 0.95)
    found = {
        trial: [Score(a + noise, f) for noise in (-0.01, 0.0, 0.01)]
        for trial, a, f in zip(trials, areas, finals, strict=True)
    }
    assert choose(TINY, found, "best_of_2").learning_rate == 1e-4
    rows = table(TINY, found)
    assert rows["area"].tolist() == pytest.approx([0.7, 0.8, 0.75])
    assert rows["area_standard_error"].tolist() == pytest.approx([0.01 / 3**0.5] * 3)
    assert rows["win_rate"].tolist() == pytest.approx([0.96, 0.94, 0.95])  # final, beside it
    assert rows["chosen"].tolist() == [False, True, False]
    assert rows[["model", "n_seeds"]].drop_duplicates().to_numpy().tolist() == [["0.1m", 3]]


def test_what_cannot_be_told_from_the_choice_is_a_tie_wherever_it_lies():
    # Differences to the best, by seed: beta .03: (.02, -.01, .02), mean .01, standard error
    # .017321 / sqrt(3) = .01, twice that is above the mean; rate 1e-4 and beta .1 at the best rate:
    # (.02, .02, .02), no error.
    found = {
        Trial("online_dpo", 5e-5, 0.3): [Score(a, 0.9) for a in (0.80, 0.80, 0.80)],
        Trial("online_dpo", 5e-5, 0.1): [Score(a, 0.9) for a in (0.78, 0.78, 0.78)],
        Trial("online_dpo", 5e-5, 0.03): [Score(a, 0.9) for a in (0.78, 0.81, 0.78)],
        Trial("online_dpo", 1e-4, 0.1): [Score(a, 0.9) for a in (0.78, 0.78, 0.78)],
        Trial("online_dpo", 2.5e-5, 0.1): [Score(a, 0.9) for a in (0.80, 0.80, 0.70)],
    }
    chosen = choose(TINY, found, "online_dpo")
    assert chosen.algorithm_params == {"beta": 0.3}
    assert chosen.tied_with == ("learning_rate = 2.5e-05 and beta = 0.1", "beta = 0.03")
    assert chosen.at_edge == ("beta",)
    rows = table(TINY, found)
    assert rows.loc[rows["tied"], "learning_rate"].tolist() == [2.5e-5, 5e-5]


def test_a_coefficient_stays_at_the_middle_unless_another_is_better_by_more_than_a_tie():
    # .2 - .05 by seed: (.02, -.01, .02): mean .01, standard error .01, twice that is above it.
    tie = scores(k2=(0.7, 0.7, 0.7), k5=(0.78, 0.81, 0.78), k20=(0.8, 0.8, 0.8))
    assert pick(tie) == Trial("rloo", 1e-4, 0.05)
    chosen = choose(TINY, tie, "rloo")
    assert chosen.algorithm_params == {"kl_coef": 0.05}
    assert chosen.value == pytest.approx(0.79)  # of the choice, not of the highest
    assert chosen.tied_with == ("kl_coef = 0.2",)
    assert "kl_coef" not in chosen.at_edge
    # (.02, .01, .02): mean .01667, standard error .00333, twice that is .00667.
    better = scores(k2=(0.7, 0.7, 0.7), k5=(0.78, 0.79, 0.78), k20=(0.8, 0.8, 0.8))
    assert pick(better) == Trial("rloo", 1e-4, 0.2)


def test_the_middle_of_another_rate_is_not_chosen():
    found = scores(k2=(0.8, 0.8, 0.8)) | {Trial("rloo", 2e-4, 0.05): [Score(0.8, 0.5)] * 3}
    assert pick(found) == Trial("rloo", 1e-4, 0.02)


def test_tied_is_two_standard_errors_of_the_difference_over_seeds():
    # Paired: differences .1, .3, .2: mean .2, standard error .1 / sqrt(3) = .0577, twice: .115.
    assert not tied([0.5, 0.9, 0.7], [0.4, 0.6, 0.5])
    # The same means, paired otherwise: .0, .2, .4: standard error .2 / sqrt(3), twice: .231.
    assert tied([0.4, 0.8, 0.9], [0.4, 0.6, 0.5])
    # Of two seeds not paired: each standard error .1, of the difference .1414, twice: .283.
    assert tied([0.5, 0.7], [0.3, 0.5])
    assert not tied([0.5, 0.7], [0.2, 0.4])
    assert tied([0.9, 0.9, 0.9], [0.9, 0.9, 0.9])
