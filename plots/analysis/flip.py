"""What would flip a verdict: by how much the estimate would have to differ, at the same spread.

The answer follows from the claim's rule and the interval alone; nothing is judged anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from plots.analysis.claims import Status, Verdict


@dataclass(frozen=True)
class Flip:
    """Another verdict and the shift of the estimate from which on the interval has it.

    The shift is positive for a higher estimate; for a magnitude it is of the natural logarithm.
    """

    status: Status
    shift: float


def flips(v: Verdict) -> list[Flip]:
    """Return the verdicts next to one, the nearest first; none where a gate is closed.

    The whole interval moves with the estimate. Holm's correction is left out.
    """
    lo, hi, margin = v.interval.lo, v.interval.hi, v.claim.margin
    if v.status.startswith(("invalid", "not tested")) or math.isnan(lo):
        return []
    if v.claim.kind in ("direction", "at_least"):
        least = 0.0 if v.claim.kind == "direction" else -margin
        refuted = margin if v.claim.kind == "direction" else -margin
        found = _one_sided(v.status, lo - least, hi - refuted, hi - lo < refuted - least)
    elif v.claim.kind == "equivalence":
        found = _two_sided(v.status, lo, hi, -margin, margin)
    else:
        assert v.claim.published is not None
        low, high = (math.log(factor * v.claim.published) for factor in (0.8, 1.25))
        found = _two_sided(v.status, math.log(lo), math.log(hi), low, high)
    return sorted(found, key=lambda flip: abs(flip.shift))


def _one_sided(status: Status, above: float, beyond: float, narrow: bool) -> list[Flip]:
    """Return the flips of a claim that the effect is above a bound.

    Args:
        status: the verdict.
        above: lower end of the interval minus the bound; positive: reproduced.
        beyond: upper end minus what refutes; negative: not reproduced, if not reproduced either.
        narrow: the interval fits between the two, so that it may be reproduced but smaller.
    """
    if status == "reproduced":
        if not narrow:
            return [Flip("inconclusive", -above)]
        return [Flip("reproduced but smaller", -beyond), Flip("not reproduced", -above)]
    if status == "reproduced but smaller":
        return [Flip("not reproduced", -above), Flip("reproduced", -beyond)]
    if status == "not reproduced":
        return [Flip("reproduced but smaller" if narrow else "inconclusive", min(-above, -beyond))]
    if above > 0:  # by the interval it is reproduced; Holm's correction says otherwise
        return []
    return [Flip("reproduced", -above), Flip("not reproduced", -beyond)]


def _two_sided(status: Status, lo: float, hi: float, low: float, high: float) -> list[Flip]:
    """Return the flips of a claim that the effect lies within two bounds."""
    fits = hi - lo < high - low
    if status == "reproduced":
        return [Flip("inconclusive", low - lo), Flip("inconclusive", high - hi)]
    if status == "not reproduced":
        return [Flip("inconclusive", high - lo if lo > high else low - hi)]
    if low < lo and hi < high:  # Holm's correction
        return []
    out = [Flip("not reproduced", high - lo), Flip("not reproduced", low - hi)]
    if not fits:
        return out
    return [Flip("reproduced", low - lo if lo <= low else high - hi), *out]


def sentence(v: Verdict) -> str:
    """Return in a sentence what would flip a verdict."""
    if v.status == "not tested at this scale":
        return f"Runs at preset {v.claim.minimum_preset} or a larger one."
    if v.status == "invalid: saturated":
        return "A task on which the compared runs end away from the bound."
    if v.status == "invalid":
        return "Runs of which this does not hold: " + v.reason + "."
    if v.interval.n < v.claim.minimum_seeds:
        missing = v.claim.minimum_seeds - v.interval.n
        return f"{missing} more complete seed{'s' * (missing != 1)}, from which on it is judged."
    found = flips(v)
    if not found:
        return "More seeds, or fewer claims in its family: by its interval alone it is reproduced."
    nearest = found[0]
    others = [f for f in found[1:] if f.status != nearest.status][:1]
    said = ", ".join(_said(f, v.claim.kind == "magnitude") for f in (nearest, *others))
    said = said[0].upper() + said[1:]
    holm = nearest.status == "inconclusive" and v.status.startswith("reproduced")
    sooner = ", sooner under Holm's correction" if holm and v.p_holm != v.p else ""
    return f"{said}; at this spread over seeds{sooner}."


def _said(flip: Flip, factor: bool) -> str:
    way = "higher" if flip.shift > 0 else "lower"
    size = f"{math.exp(abs(flip.shift)):.4g} times" if factor else f"{abs(flip.shift):.4f}"
    return f"{flip.status} if the estimate were {size} {way}"
