import math
from dataclasses import replace

import numpy as np
import pytest

from plots.analysis import claims, flip
from tests.plots.analysis.test_claims import AT_LEAST, DIRECTION, EQUIVALENCE, MAGNITUDE, around

CASES = [
    (DIRECTION, around(0.010, 0.004)),  # reproduced
    (DIRECTION, around(0.0052, 0.001)),  # reproduced, narrower than the margin
    (DIRECTION, around(0.003, 0.001)),  # reproduced but smaller
    (DIRECTION, around(0.010, 0.011)),  # inconclusive
    (DIRECTION, around(0.000, 0.002)),  # not reproduced, narrow
    (DIRECTION, around(-0.01, 0.004)),  # not reproduced, wide
    (AT_LEAST, around(0.01, 0.004)),
    (AT_LEAST, around(-0.02, 0.004)),
    (AT_LEAST, around(-0.04, 0.004)),
    (EQUIVALENCE, around(0.01, 0.02, 0.90)),
    (EQUIVALENCE, around(-0.01, 0.02, 0.90)),
    (EQUIVALENCE, around(0.03, 0.02, 0.90)),
    (EQUIVALENCE, around(0.01, 0.06, 0.90)),  # wider than the margins
    (EQUIVALENCE, around(0.07, 0.02, 0.90)),
    (EQUIVALENCE, around(-0.07, 0.02, 0.90)),
    (MAGNITUDE, list(np.exp(around(math.log(1.4), 0.05)))),
    (MAGNITUDE, list(np.exp(around(math.log(1.8), 0.10)))),
    (MAGNITUDE, list(np.exp(around(math.log(3.0), 0.05)))),
]


def judged(claim, effects, shift=0.0):
    """Return the verdict on effects that are all moved by a shift, of logarithms for a ratio."""
    x = np.asarray(effects)
    moved = x * math.exp(shift) if claim.kind == "magnitude" else x + shift
    return claims.verdict(moved, claim, "tiny")


@pytest.mark.parametrize(("claim", "effects"), CASES)
def test_the_verdict_flips_where_it_says_and_not_before(claim, effects):
    """The oracle is the verdict itself, on seeds that are all moved by the shift."""
    v = judged(claim, effects)
    found = flip.flips(v)
    assert found
    for one in found:
        assert judged(claim, effects, one.shift * 1.0001).status == one.status
    nearest = found[0]
    assert judged(claim, effects, nearest.shift * 0.9999).status == v.status


def test_a_wide_interval_can_only_be_refuted_by_a_shift():
    v = judged(EQUIVALENCE, around(0.01, 0.06, 0.90))
    assert {one.status for one in flip.flips(v)} == {"not reproduced"}


def test_sentence_names_the_nearest_flip_and_one_other():
    """0.010 +- 0.011: the lower end is 0.001 below 0, the upper 0.016 above the margin 0.005."""
    assert flip.sentence(judged(DIRECTION, around(0.010, 0.011))) == (
        "Reproduced if the estimate were 0.0010 higher, not reproduced if the estimate were 0.0160 "
        "lower; at this spread over seeds."
    )


def test_sentence_of_a_ratio_is_a_factor():
    """The interval of 1.4 exp(+-0.05) leaves 0.8 to 1.25 of 1.4 by exp(ln 1.25 - 0.05) = 1.189."""
    v = judged(MAGNITUDE, np.exp(around(math.log(1.4), 0.05)))
    assert "inconclusive if the estimate were 1.189 times" in flip.sentence(v).lower()


def test_holms_correction_may_flip_it_sooner():
    v = judged(DIRECTION, around(0.010, 0.004))
    assert "Holm" not in flip.sentence(v)
    assert flip.sentence(replace(v, p_holm=2 * v.p)).endswith(
        "at this spread over seeds, sooner under Holm's correction."
    )


def test_what_only_holms_correction_holds_back_needs_more_seeds():
    v = replace(judged(DIRECTION, around(0.010, 0.004)), status="inconclusive", p_holm=0.06)
    assert flip.sentence(v).startswith("More seeds, or fewer claims in its family")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": "smoke"}, "Runs at preset tiny or a larger one."),
        ({"effects": [0.01] * 4}, "1 more complete seed, from which on it is judged."),
        ({"effects": [0.01, 0.02]}, "3 more complete seeds, from which on it is judged."),
        ({"failures": ["no gain"]}, "Runs of which this does not hold: no gain."),
        ({"saturated": "all at 1"}, "A task on which the compared runs end away from the bound."),
    ],
)
def test_sentence_of_a_closed_gate_says_what_would_open_it(changes, said):
    asked = {"effects": around(0.01, 0.004), "claim": DIRECTION, "preset": "tiny", **changes}
    assert flip.sentence(claims.verdict(**asked)) == said
