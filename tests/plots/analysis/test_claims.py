import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.errors import UserError
from plots.analysis import claims, registry
from plots.analysis.frames import Record
from plots.analysis.registry import Claim
from tests.plots import simulated

REGISTERED = Path(__file__).parents[3] / "reproductions" / "claims.toml"

DIRECTION = Claim(
    id="X", figure="fig", sentence="It falls.", source="", estimand="fall_per_octave",
    outcome="final", definition="", unit="win rate", algorithms=("ppo",), n=(1, 2),
    kind="direction", margin=0.005, margin_reason="", published=0.01,
)  # fmt: skip
EQUIVALENCE = replace(DIRECTION, kind="equivalence", margin=0.04)
AT_LEAST = replace(DIRECTION, kind="at_least", margin=0.02)
MAGNITUDE = replace(DIRECTION, kind="magnitude", published=1.4)


def around(mean: float, half: float, level: float = 0.95) -> list[float]:
    """Return five effects whose t-interval is mean +- half: spread +-a twice and one 0."""
    t = {0.95: 2.7764451, 0.90: 2.1318468}[level]
    a = half / t * math.sqrt(5)  # sd of (-a, -a, 0, a, a) is a
    return [mean + a * step for step in (-1, -1, 0, 1, 1)]


@pytest.mark.parametrize(
    ("mean", "half", "status"),
    [
        (0.010, 0.004, "reproduced"),
        (0.010, 0.011, "inconclusive"),
        (0.003, 0.001, "reproduced but smaller"),
        (0.000, 0.004, "not reproduced"),
        (-0.01, 0.004, "not reproduced"),
        (0.002, 0.004, "inconclusive"),
    ],
)
def test_verdict_of_a_direction_follows_its_interval(mean, half, status):
    v = claims.verdict(around(mean, half), DIRECTION, "tiny")
    assert v.status == status
    assert (v.interval.lo, v.interval.hi) == pytest.approx((mean - half, mean + half))
    assert (v.p < 0.05) == status.startswith("reproduced")


@pytest.mark.parametrize(
    ("mean", "half", "status"),
    [
        (0.01, 0.02, "reproduced"),
        (0.01, 0.04, "inconclusive"),  # its p of a difference is far above .05, and yet
        (0.05, 0.02, "inconclusive"),
        (0.07, 0.02, "not reproduced"),
        (-0.07, 0.02, "not reproduced"),
    ],
)
def test_verdict_of_an_equivalence_follows_its_90_percent_interval(mean, half, status):
    v = claims.verdict(around(mean, half, 0.90), EQUIVALENCE, "tiny")
    assert v.status == status
    assert v.interval.level == 0.90
    assert (v.p < 0.05) == (status == "reproduced")


@pytest.mark.parametrize(
    ("mean", "half", "status"),
    [(0.0, 0.01, "reproduced"), (-0.02, 0.01, "inconclusive"), (-0.04, 0.01, "not reproduced")],
)
def test_verdict_of_at_least_allows_the_margin(mean, half, status):
    v = claims.verdict(around(mean, half), AT_LEAST, "tiny")
    assert v.status == status
    assert (v.p < 0.05) == (status == "reproduced")


@pytest.mark.parametrize(
    ("ratio", "half", "status"),
    [(1.4, 0.1, "reproduced"), (1.4, 0.3, "inconclusive"), (1.0, 0.1, "not reproduced")],
)
def test_verdict_of_a_magnitude_compares_ratios_on_the_log_scale(ratio, half, status):
    v = claims.verdict(np.exp(around(math.log(ratio), half)), MAGNITUDE, "tiny")
    assert v.status == status
    assert v.interval.lo == pytest.approx(ratio * math.exp(-half))
    assert (v.p < 0.05) == (status == "reproduced")


def test_verdict_gates_close_in_order():
    strong = around(0.01, 0.001)
    paper_only = replace(DIRECTION, minimum_preset="paper")
    v = claims.verdict(strong[:3], paper_only, "tiny", ["broken"])
    assert (v.status, v.reason, v.p) == ("not tested at this scale", "needs preset paper", None)
    v = claims.verdict(strong[:3], DIRECTION, "tiny", ["broken"])
    assert (v.status, v.reason) == ("inconclusive", "3 of 5 seeds complete")
    v = claims.verdict(strong, DIRECTION, "tiny", ["broken", "stale"], "at the top")
    assert (v.status, v.reason, v.p) == ("invalid", "broken; stale", None)
    v = claims.verdict(strong, DIRECTION, "tiny", saturated="at the top")
    assert (v.text, v.reason, v.p) == ("invalid: saturated", "at the top", None)
    assert v.interval.estimate == pytest.approx(0.01)  # printed all the same
    assert claims.verdict(strong, DIRECTION, "smoke").status == "not tested at this scale"


def test_verdict_of_no_seeds_is_inconclusive():
    v = claims.verdict([], DIRECTION, "tiny")
    assert (v.status, v.interval.n) == ("inconclusive", 0)
    assert (v.worst_seed, v.p) == (None, None)
    assert math.isnan(v.worst)
    assert math.isnan(v.mde)


@pytest.mark.parametrize(
    ("claim", "sign", "worst", "seed"),
    [
        (DIRECTION, 1, -0.02, 7),  # the smallest
        (AT_LEAST, 1, -0.02, 7),
        (EQUIVALENCE, 1, 0.03, 2),  # the farthest from 0
        (EQUIVALENCE, -1, -0.03, 2),
    ],
)
def test_verdict_names_the_seed_that_is_least_as_claimed(claim, sign, worst, seed):
    effects = sign * np.array([0.01, 0.03, -0.02, 0.0, 0.01])
    v = claims.verdict(effects, claim, "tiny", seeds=[1, 2, 7, 8, 9])
    assert (v.worst, v.worst_seed) == (worst, seed)


def test_verdict_of_a_magnitude_has_the_farthest_ratio_and_a_detectable_factor():
    ratios = [1.4, 1.5, 1.0, 1.5, 1.7]  # of 1.4 published: 1.4 / 1.0 is farther than 1.7 / 1.4
    v = claims.verdict(ratios, MAGNITUDE, "tiny")
    assert (v.worst, v.worst_seed) == (1.0, 2)
    # sd of the logarithms is .196; 1.682 of them are found with probability .8 (see test_stats)
    assert v.mde == pytest.approx(math.exp(1.682 * np.std(np.log(ratios), ddof=1)), rel=1e-3)


def test_verdict_of_seeds_that_do_not_differ_has_no_p_value():
    v = claims.adjust([claims.verdict([0.0] * 5, EQUIVALENCE, "tiny")])[0]
    assert (v.status, v.p, v.p_holm) == ("reproduced", None, None)
    assert (v.interval.lo, v.interval.hi) == (0.0, 0.0)
    assert math.isnan(v.mde)
    rounded = [0.1 - 0.1, 0.3 - 0.3, 0.1 + 0.2 - 0.3, 0.0, 0.0]  # the third is 5.6e-17
    assert claims.verdict(rounded, EQUIVALENCE, "tiny").p is None


def test_verdict_text_names_the_scale():
    assert claims.verdict(around(0.01, 0.001), DIRECTION, "tiny").text == "reproduced at tiny scale"
    assert claims.verdict([], DIRECTION, "smoke").text == "not tested at this scale"


def test_verdict_refuses_an_unknown_preset():
    with pytest.raises(UserError, match=r"preset 'huge'.*smoke, tiny, worth, small, paper"):
        claims.verdict([], DIRECTION, "huge")


def rates(
    claim: Claim, mean: float, sd: float, seeds: int, repeats: int = 1500
) -> dict[str, float]:
    rng = np.random.default_rng(seeds)
    statuses = [
        claims.verdict(rng.normal(mean, sd, seeds), claim, "tiny").status for _ in range(repeats)
    ]
    return {status: statuses.count(status) / repeats for status in set(statuses)}


@pytest.mark.parametrize("seeds", [5, 10])
def test_direction_without_an_effect_is_called_reproduced_at_most_5_percent(seeds):
    r = rates(DIRECTION, 0.0, 0.0053, seeds)
    assert r.get("reproduced", 0) + r.get("reproduced but smaller", 0) <= 0.05


@pytest.mark.parametrize("gap", [0.04, -0.04])
def test_equivalence_with_a_gap_at_the_margin_is_called_reproduced_at_most_5_percent(gap):
    # The test's size is exactly 5%: allow 3 standard errors of 1500 repeats, .017.
    assert rates(EQUIVALENCE, gap, 0.015, 5)["reproduced"] <= 0.05 + 0.017


def test_at_least_at_the_margin_is_called_reproduced_at_most_5_percent():
    assert rates(AT_LEAST, -0.02, 0.01, 5)["reproduced"] <= 0.05


def test_equal_arms_are_mostly_called_equivalent_and_true_effects_found():
    assert rates(EQUIVALENCE, 0.0, 0.015, 5)["reproduced"] > 0.85
    assert rates(DIRECTION, 0.01, 0.0053, 5)["reproduced"] > 0.75


def test_noise_is_never_taken_for_equivalence():
    # No difference, but seeds so noisy that p of a difference is large: nothing is shown.
    assert rates(EQUIVALENCE, 0.0, 0.2, 5).get("reproduced", 0) <= 0.05


def test_adjust_demotes_what_holm_does_not_keep():
    weak = claims.verdict(around(0.01, 0.0099), DIRECTION, "tiny")
    gated = claims.verdict([], DIRECTION, "tiny")
    assert weak.status == "reproduced"
    assert claims.adjust([weak])[0].status == "reproduced"
    demoted = claims.adjust([weak, gated])[0]
    assert demoted.status == "inconclusive"
    assert demoted.p_holm == pytest.approx(2 * weak.p)
    assert demoted.reason == ("not beyond chance among the figure's 2 claims on final (Holm)")
    assert claims.adjust([weak, gated])[1].p_holm is None


def test_adjust_keeps_false_reproductions_of_a_whole_figure_at_5_percent():
    rng = np.random.default_rng(0)
    any_false = 0
    for _ in range(500):
        family = [
            claims.verdict(rng.normal(0.0, 0.005, 5), DIRECTION, "tiny"),
            claims.verdict(rng.normal(0.0, 0.005, 5), DIRECTION, "tiny"),
            claims.verdict(rng.normal(-0.02, 0.01, 5), AT_LEAST, "tiny"),
            claims.verdict(rng.normal(0.04, 0.015, 5), EQUIVALENCE, "tiny"),
        ]
        any_false += any(v.status.startswith("reproduced") for v in claims.adjust(family))
    assert any_false / 500 <= 0.05


def test_judge_finds_what_was_put_into_the_record():
    record = Record.of(*simulated.tables(seeds=10, noise=0.008))
    loaded = registry.load(REGISTERED)
    ppo = {v.claim.id: v.status for v in claims.judge(loaded, "fig_offpolicy_ppo", record, "tiny")}
    assert ppo["C1-64"] == "reproduced"  # .04 x .33 = .0132 lost per doubling
    # The mean of 1 - (1 - t)^2 over training is 2/3 at most, so .0088 at most, below the margin.
    assert ppo["C1-64-area"] == "reproduced but smaller"
    assert ppo["C3-64"] == "reproduced"
    robust = claims.judge(loaded, "fig_offpolicy_robustness", record, "tiny")
    by_id = {v.claim.id: v.status for v in robust}
    assert list(by_id) == [c.id for c in loaded if c.figure == "fig_offpolicy_robustness"]
    for variant in ("-64", "-64-area"):  # of shares of the gain, which the area has too
        assert by_id[f"C5a{variant}"] == "reproduced"  # .040 - .008 lost per doubling
        assert by_id[f"C6{variant}"] == "reproduced"


def test_judge_closes_claims_whose_arms_are_all_at_the_ceiling():
    flat = dict.fromkeys(simulated.PAPER_LIKE, (0.95, 0.0, 20.0))
    record = replace(Record.of(*simulated.tables(flat, noise=0.002)), ceiling=0.955)
    loaded = registry.load(REGISTERED)
    for figure in ("fig_offpolicy_ppo", "fig_offpolicy_robustness"):
        for v in claims.judge(loaded, figure, record, "tiny"):
            assert (v.status == "invalid: saturated") == (v.claim.outcome == "final"), v.claim.id
    # Without a ceiling below them the same runs are judged.
    far = replace(record, ceiling=None)
    judged = {v.claim.id: v.status for v in claims.judge(loaded, "fig_offpolicy_ppo", far, "tiny")}
    assert judged["C2a"] == "reproduced"


def test_judge_corrects_over_the_claims_of_one_outcome():
    record = Record.of(*simulated.tables())
    for v in claims.judge(registry.load(REGISTERED), "fig_offpolicy_ppo", record, "tiny"):
        if v.claim.id == "C1-64":
            # The smallest p of the five on the final win rate: C1, C2a, C2b, C1-64, C2b-64.
            assert v.p_holm == pytest.approx(5 * v.p)


def test_judge_gives_no_verdict_at_smoke_or_with_three_seeds():
    loaded = registry.load(REGISTERED)
    record = Record.of(*simulated.tables(seeds=3))
    for preset, status in (("smoke", "not tested at this scale"), ("tiny", "inconclusive")):
        verdicts = claims.judge(loaded, "fig_offpolicy_ppo", record, preset)
        assert {v.status for v in verdicts} == {status}


def test_judge_voids_claims_on_a_schedule_that_was_not_kept():
    runs, evals, steps = simulated.tables()
    steps["staleness"] = 0
    verdicts = claims.judge(
        registry.load(REGISTERED), "fig_offpolicy_ppo", Record.of(runs, evals, steps), "tiny"
    )
    assert {v.status for v in verdicts} == {"invalid"}


def test_judge_stands_a_record_without_the_claims_runs():
    verdicts = claims.judge(
        registry.load(REGISTERED),
        "fig_offpolicy_robustness",
        Record.of(*simulated.tables({"ppo": (0.9, 0.04, 20.0)}, grid=(1,))),
        "tiny",
    )
    assert {v.reason for v in verdicts} == {"0 of 5 seeds complete"}
