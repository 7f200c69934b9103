import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.errors import UserError
from plots.analysis import claims
from plots.analysis.claims import Claim
from plots.analysis.frames import Record
from tests.plots import simulated

REGISTERED = Path(__file__).parents[3] / "reproductions" / "claims.toml"

DIRECTION = Claim(
    id="X", figure="fig", sentence="It falls.", source="", estimand="fall_per_octave",
    definition="", unit="win rate", algorithms=("ppo",), n=(1, 2), kind="direction",
    margin=0.005, margin_reason="", published=0.01,
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
    assert (v.status, v.reason, v.p) == ("not tested at this scale", "needs preset paper", 1.0)
    v = claims.verdict(strong[:3], DIRECTION, "tiny", ["broken"])
    assert (v.status, v.reason) == ("inconclusive", "3 of 5 seeds complete")
    v = claims.verdict(strong, DIRECTION, "tiny", ["broken", "stale"])
    assert (v.status, v.reason, v.p) == ("invalid", "broken; stale", 1.0)
    assert v.interval.estimate == pytest.approx(0.01)  # printed all the same
    assert claims.verdict(strong, DIRECTION, "smoke").status == "not tested at this scale"


def test_verdict_of_no_seeds_is_inconclusive():
    v = claims.verdict([], DIRECTION, "tiny")
    assert (v.status, v.interval.n) == ("inconclusive", 0)


def test_verdict_text_names_the_scale():
    assert claims.verdict(around(0.01, 0.001), DIRECTION, "tiny").text == "reproduced at tiny scale"
    assert claims.verdict([], DIRECTION, "smoke").text == "not tested at this scale"


def test_verdict_refuses_an_unknown_preset():
    with pytest.raises(UserError, match=r"preset 'huge'.*smoke, tiny, small, paper"):
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
    assert "2 claims (Holm)" in demoted.reason


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


def test_registered_claims_are_complete():
    loaded = claims.load(REGISTERED)
    ids = {claim.id: claim for claim in loaded}
    off_policy = ["C1", "C2a", "C2b", "C3", "C4a", "C4b", "C5a", "C5b", "C6"]
    assert {*off_policy, "C9", "C10a", "C10b", "C17a", "C17b", "C18"} <= set(ids)
    for claim in loaded:
        assert claim.definition
        assert claim.source
        assert claim.margin_reason
        assert claim.minimum_seeds == 5
        assert claim.minimum_preset == ("paper" if claim.id in ("C10b", "C17b") else "tiny")


def test_registered_effects_follow_from_the_published_win_rates():
    ids = {claim.id: claim for claim in claims.load(REGISTERED)}
    sft = 0.2536
    lost = {
        name: (on - stale) / (on - sft) / 4  # retained gain per doubling, N = 1 to 16
        for name, on, stale in (("dpo", 0.85, 0.82), ("ppo", 0.86, 0.76), ("rloo", 0.82, 0.77))
    }
    assert ids["C1"].published == pytest.approx((0.86 - 0.76) / 4)
    assert ids["C5a"].published == pytest.approx(lost["ppo"] - lost["dpo"], abs=5e-5)
    assert ids["C5b"].published == pytest.approx(lost["rloo"] - lost["dpo"], abs=5e-5)
    for name in ("C1", "C4b", "C5a", "C5b"):
        assert 2 * ids[name].margin == pytest.approx(ids[name].published, abs=1.2e-4)


def test_judge_finds_what_was_put_into_the_record():
    record = Record.of(*simulated.tables(seeds=10, noise=0.008))
    loaded = claims.load(REGISTERED)
    ppo = {v.claim.id: v.status for v in claims.judge(loaded, "fig_offpolicy_ppo", record, "tiny")}
    assert ppo["C1"] == "reproduced"  # .04 x .33 = .0132 lost per doubling
    assert ppo["C3"] == "reproduced"
    robust = claims.judge(loaded, "fig_offpolicy_robustness", record, "tiny")
    by_id = {v.claim.id: v.status for v in robust}
    assert list(by_id) == ["C4a", "C4b", "C5a", "C5b", "C6"]
    assert by_id["C5a"] == "reproduced"  # .040 - .008 lost per doubling
    assert by_id["C6"] == "reproduced"


def test_judge_gives_no_verdict_at_smoke_or_with_three_seeds():
    loaded = claims.load(REGISTERED)
    record = Record.of(*simulated.tables(seeds=3))
    for preset, status in (("smoke", "not tested at this scale"), ("tiny", "inconclusive")):
        verdicts = claims.judge(loaded, "fig_offpolicy_ppo", record, preset)
        assert {v.status for v in verdicts} == {status}


def test_judge_voids_claims_on_a_schedule_that_was_not_kept():
    runs, evals, steps = simulated.tables()
    steps["staleness"] = 0
    verdicts = claims.judge(
        claims.load(REGISTERED), "fig_offpolicy_ppo", Record.of(runs, evals, steps), "tiny"
    )
    assert {v.status for v in verdicts} == {"invalid"}


def test_judge_stands_a_record_without_the_claims_runs():
    verdicts = claims.judge(
        claims.load(REGISTERED),
        "fig_offpolicy_robustness",
        Record.of(*simulated.tables({"ppo": (0.9, 0.04, 20.0)}, grid=(1,))),
        "tiny",
    )
    assert {v.reason for v in verdicts} == {"0 of 5 seeds complete"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[claim", "cannot be read as claims"),
        ("[[claims]]", "cannot be read as claims"),
        ('[[claim]]\nid = "A"', "claim A: .*missing"),
        ('[[claim]]\nid = "A"\ncolour = 1', "claim A: unknown colour; allowed are algorithms"),
    ],
)
def test_load_refuses_what_it_cannot_read(tmp_path, text, message):
    path = tmp_path / "claims.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        claims.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"estimand": "slope"}, "estimand = 'slope': allowed are fall_per_octave"),
        ({"kind": "equal"}, "kind = 'equal': allowed are direction, at_least"),
        ({"minimum_preset": "big"}, "minimum_preset = 'big'"),
        ({"kind": "equivalence", "margin": 0.0}, "margin = 0.0: must be above 0"),
        ({"kind": "magnitude", "published": None}, "needs the published ratio"),
    ],
)
def test_claim_refuses_what_cannot_be_judged(change, message):
    with pytest.raises(UserError, match=message):
        replace(DIRECTION, **change)
