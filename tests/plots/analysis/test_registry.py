import math
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.experiments.presets import preset
from plots.analysis import registry
from plots.analysis.frames import Record
from plots.analysis.registry import Claim
from reproductions import fig_generation_bound, fig_training_bound, table_math
from reproductions.options import Options
from tests.plots import armed, simulated

REGISTERED = Path(__file__).parents[3] / "reproductions" / "claims.toml"

DIRECTION = Claim(
    id="X", figure="fig", sentence="It falls.", source="", estimand="fall_per_octave",
    outcome="final", definition="", unit="win rate", algorithms=("ppo",), n=(1, 2),
    kind="direction", margin=0.005, margin_reason="", published=0.01,
)  # fmt: skip


def test_registered_claims_are_complete():
    loaded = registry.load(REGISTERED)
    ids = {claim.id: claim for claim in loaded}
    off_policy = ["C1", "C2a", "C2b", "C3", "C4a", "C4b", "C5a", "C5b", "C6"]
    assert {*off_policy, "C9", "C10a", "C10b", "C17a", "C17b", "C18"} <= set(ids)
    assert {"C16a", "C16a-area", "C16b"} <= set(ids)
    assert {"C7", "C7-64", "C8a", "C8a-64", "C8b", "OO1"} <= set(ids)
    assert {"C11", "C11-area", "C12", "C13b", "C13c", "C13c-area", "C14", "C14-rate2"} <= set(ids)
    assert {f"C13a{v}" for v in ("", "-area", "-rate2", "-rate2-area")} <= set(ids)
    assert {"C15a", "C15a-area", "C15b", "C15c", "C15d"} <= set(ids)
    both = {f"{name}{variant}" for name in ("C1", "C5a", "C5b", "C6")
            for variant in ("", "-area", "-64", "-64-area")}  # fmt: skip
    assert {*both, "C2a-area", "C3-64", "C4a-area", "C4b-area", "C9-area"} <= set(ids)
    assert {"OO1-ppo", "OO1-rloo", "OO1-best_of_2"} <= set(ids)
    assert {f"{name}{variant}" for name in ("L1a", "O1", "O2", "O3")
            for variant in ("", "-area", "-64", "-64-area")} <= set(ids)  # fmt: skip
    assert {"L1b", "L1b-area", "L2a", "L2a-online_dpo", "L2b", "L2b-online_dpo"} <= set(ids)
    assert {
        f"{name}{loss}" for name in ("L3", "L4") for loss in ("", "-rloo", "-online_dpo")
    } <= set(ids)
    assert {"L5", "L5-area", "L6", "L6-area", "L7", "L7-area", "L8a", "L8b"} <= set(ids)
    on_n = ("fall_per_octave", "retention_slope_difference", "policy_size_interaction",
            "reward_size_interaction")  # fmt: skip
    for claim in loaded:
        assert claim.definition
        assert claim.source
        assert claim.margin_reason
        assert claim.minimum_seeds == 5
        stem, *variants = claim.id.split("-")
        assert claim.variant_of == (stem if variants else "")
        assert (claim.outcome == "area") == ("area" in variants)
        if claim.estimand in on_n:
            assert claim.n == ((1, 2, 4, 8, 16, 32, 64) if "64" in variants else (1, 2, 4, 8, 16))
        assert claim.minimum_preset == ("paper" if claim.id in ("C10b", "C17b") else "tiny")


def test_registered_effects_follow_from_the_published_win_rates():
    ids = {claim.id: claim for claim in registry.load(REGISTERED)}
    sft = 0.2536
    lost = {
        name: (on - stale) / (on - sft) / 4  # retained gain per doubling, N = 1 to 16
        for name, on, stale in (("dpo", 0.85, 0.82), ("ppo", 0.86, 0.76), ("rloo", 0.82, 0.77))
    }
    assert ids["C1"].published == pytest.approx((0.86 - 0.76) / 4)
    assert ids["C5a"].published == pytest.approx(lost["ppo"] - lost["dpo"], abs=5e-5)
    assert ids["C5b"].published == pytest.approx(lost["rloo"] - lost["dpo"], abs=5e-5)
    of_dpo = (58.9 - 58.7) / (58.7 - 47.4) / math.log2(100)  # renewed every 1 and every 100 steps
    assert ids["L7"].published == pytest.approx(of_dpo, abs=5e-5)
    for name in ("C1", "C4b", "C5a", "C5b"):
        assert 2 * ids[name].margin == pytest.approx(ids[name].published, abs=1.2e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[claim", "cannot be read as claims"),
        ("[[claims]]", "cannot be read as claims"),
        ('[[claim]]\nid = "A"', "claim A: missing figure, sentence, .*, margin_reason"),
        ('[[claim]]\nid = "A"\nvariant_of = "B"', "claim A: variant_of = 'B': must be a claim"),
        ('[[claim]]\nid = "A"\ncolour = 1', "claim A: unknown colour; allowed are algorithms"),
    ],
)
def test_load_refuses_what_it_cannot_read(tmp_path, text, message):
    path = tmp_path / "claims.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        registry.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"estimand": "slope"}, "estimand = 'slope': allowed are fall_per_octave"),
        ({"outcome": "time"}, "outcome = 'time': allowed are final, area"),
        ({"algorithms": ("ppo", "rloo")}, "fall_per_octave compares 1"),
        ({"arms": ("T = 1", "T = 2")}, "arms = .*: fall_per_octave compares none"),
        (
            {"estimand": "arm_gain", "arms": ("T = 1",)},
            r"arms = \['T = 1'\]: arm_gain compares two or more",
        ),
        ({"n": (2, 1)}, r"n = \[2, 1\]: must rise"),
        ({"n": (0, 1)}, r"n = \[0, 1\]: must rise"),
        ({"kind": "equal"}, "kind = 'equal': allowed are direction, at_least"),
        ({"minimum_preset": "big"}, "minimum_preset = 'big'"),
        ({"kind": "equivalence", "margin": 0.0}, "margin = 0.0: must be above 0"),
        ({"kind": "magnitude", "published": None}, "needs the published ratio"),
    ],
)
def test_claim_refuses_what_cannot_be_judged(change, message):
    with pytest.raises(UserError, match=message):
        replace(DIRECTION, **change)


ROW = """
[[claim]]
id = "A"
figure = "fig"
sentence = "It falls."
source = "-"
estimand = "fall_per_octave"
outcome = "final"
definition = "-"
unit = "win rate"
algorithms = ["ppo"]
n = [1, 2, 4]
kind = "direction"
margin = 0.01
margin_reason = "-"
"""


def load(tmp_path, text):
    path = tmp_path / "claims.toml"
    path.write_text(text)
    return registry.load(path)


def test_a_variant_has_from_its_claim_what_it_does_not_say(tmp_path):
    variant = '[[claim]]\nid = "A-area"\nvariant_of = "A"\noutcome = "area"\nn = [1, 2, 4, 8]\n'
    first, second = load(tmp_path, ROW + variant)
    assert (first.variant_of, first.n) == ("", (1, 2, 4))
    assert second == replace(first, id="A-area", variant_of="A", outcome="area", n=(1, 2, 4, 8))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n = [1, 2, 4]", 'n = [1, "2"]', r"claim A: n = \[1, '2'\]: must be a list of whole"),
        ('["ppo"]', '"ppo"', "claim A: algorithms = 'ppo': must be a list of texts"),
        ("margin = 0.01", 'margin = "small"', "claim A: margin = 'small': must be a number"),
        ("margin = 0.01", "margin = true", "claim A: margin = True: must be a number"),
        ('unit = "win rate"', "unit = 1", "claim A: unit = 1: must be a text"),
        ('"direction"', '"equal"', "claims.toml: claim A: kind = 'equal': allowed are"),
        (
            "margin = 0.01",
            "margin = 1\nminimum_seeds = 2.5",
            "minimum_seeds = 2.5: must be a whole",
        ),
    ],
)
def test_load_says_in_a_line_what_is_wrong_with_a_row(tmp_path, old, new, message):
    assert old in ROW
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, ROW.replace(old, new))
    assert len(str(caught.value).splitlines()) == 1


def test_load_refuses_an_id_that_is_there_twice(tmp_path):
    with pytest.raises(UserError, match="claim A: is there twice"):
        load(tmp_path, ROW + ROW)


def test_effects_of_a_claim_on_arms_are_of_its_arms():
    record = armed.record({"T = 1": armed.Made(0.2, 10.0), "T = 2": armed.Made(0.25, 10.0)})

    def effects(*arms):
        asked = {"estimand": "arm_gain", "algorithms": ("online_dpo",), "n": (1,), "arms": arms}
        return replace(DIRECTION, **asked).effects(record).values

    assert effects("T = 1", "T = 2") == pytest.approx([0.05] * 5)
    assert effects("T = 2", "T = 1") == pytest.approx([-0.05] * 5)


def test_the_arms_of_registered_claims_are_those_of_their_figures():
    worth = preset("worth")
    there = {}
    for script in (fig_generation_bound, fig_training_bound, table_math):
        cells = script.grid(Options(preset=worth))
        there[script.REPRODUCTION.name] = set(script.REPRODUCTION.arms(cells, worth).values())
    asked = [claim for claim in registry.load(REGISTERED) if claim.arms]
    assert {claim.figure for claim in asked} == set(there)
    for claim in asked:
        assert set(claim.arms) <= there[claim.figure]


def test_effects_of_a_claim_are_of_its_outcome():
    # Without noise w(t) = .58 + .33 k (1 - (1 - t)^2), k = 1 - .04 log2 N, evaluated at t = i / 8:
    # the trapezoid of 1 - (1 - t)^2 is 2/3 - 1/(6 x 64) = .6640625.
    record = Record.of(*simulated.tables({"ppo": (0.91, 0.04, 20.0)}, noise=0.0))
    final = replace(DIRECTION, n=(1, 2, 4)).effects(record).values
    area = replace(DIRECTION, n=(1, 2, 4), outcome="area").effects(record).values
    assert final == pytest.approx([0.33 * 0.04] * 5)
    assert area == pytest.approx([0.33 * 0.04 * 0.6640625] * 5)
