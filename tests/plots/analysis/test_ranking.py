import pandas as pd
import pytest

from plots.analysis import ranking
from plots.analysis.frames import Record
from tests.plots import simulated


def record(areas, **columns):
    """Return a record of {(algorithm, n): win-rate areas by seed}."""
    rows = [
        {"algorithm": name, "n": n, "seed": seed, "win_rate_area": area, **columns}
        for (name, n), values in areas.items()
        for seed, area in enumerate(values)
    ]
    return Record(pd.DataFrame(rows), pd.DataFrame(), frozenset())


def test_series_are_ranked_by_their_mean_over_cells_and_neighbours_tested_by_seed():
    """b is .1 above a in every seed but for .001; c and a differ by -.1, 0, +.1."""
    found = ranking.rank(
        record({
            ("a", 1): [0.5, 0.6, 0.7], ("a", 2): [0.5, 0.6, 0.7],
            ("b", 1): [0.601, 0.7, 0.8], ("b", 2): [0.599, 0.7, 0.802],
            ("c", 1): [0.59, 0.59, 0.59], ("c", 2): [0.59, 0.59, 0.59],
        }),
        ["algorithm"],
    )  # fmt: skip
    assert found.names == ("b", "a", "c")
    assert found.means == pytest.approx((0.700333, 0.6, 0.59), abs=1e-6)
    assert found.clear == (True, False)
    assert found.sentence == (
        "By mean win rate over training, over 3 seeds, best first: b (0.7003) > a (0.6000) ≈ c "
        "(0.5900); decisive only where it says >; ≈ is within chance."
    )
    assert found.short == (
        "b is first; 1 of all 2 steps between neighbours are beyond chance (3 seeds): the ranking "
        "is not decisive."
    )


def test_a_difference_that_one_test_finds_may_not_survive_two_of_them():
    """Differences .01 +- t .0036 / sqrt(3): p = .0405 alone, .081 with a second pair."""
    a, b = [0.5, 0.5, 0.5], [0.5064, 0.51, 0.5136]
    assert ranking.rank(record({("a", 1): a, ("b", 1): b}), ["algorithm"]).clear == (True,)
    c = [0.4, 0.5, 0.6]
    three = ranking.rank(record({("a", 1): a, ("b", 1): b, ("c", 1): c}), ["algorithm"])
    assert three.clear == (False, False)
    assert three.sentence.endswith("no step is beyond chance: the ranking is not decisive.")
    assert three.short.startswith(
        "b is first, and no step among the first 3 is beyond chance; 0 of"
    )


def test_only_cells_and_seeds_that_all_series_have_count():
    found = ranking.rank(
        record({("a", 1): [0.5, 0.5], ("a", 2): [0.1, 0.1], ("b", 1): [0.6, 0.6, 0.9]}),
        ["algorithm"],
    )
    assert (found.names, found.means, found.seeds) == (("b", "a"), (0.6, 0.5), 2)


def test_there_is_no_ranking_of_one_series_or_without_a_common_cell():
    assert ranking.rank(record({("a", 1): [0.5, 0.6]}), ["algorithm"]) is None
    apart = record({("a", 1): [0.5, 0.6], ("b", 2): [0.5, 0.6]})
    assert ranking.rank(apart, ["algorithm"]) is None


def test_one_seed_is_not_decisive():
    found = ranking.rank(record({("a", 1): [0.5], ("a", 2): [0.6]}), ["n"])
    assert found.names == ("N = 2", "N = 1")
    assert found.sentence.endswith("one seed: the ranking is not decisive.")


def test_the_simulated_paper_is_ranked_as_it_was_made():
    record = Record.of(*simulated.tables())
    found = ranking.rank(record, ["algorithm"])
    assert found.names[0] == "online_dpo"
    assert found.names[-1] == "best_of_2"
    assert found.seeds == 5
