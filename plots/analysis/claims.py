"""Verdicts on registered claims.

The verdict is a pure function of per-seed effects and a claim. Holm's correction is applied to
"reproduced"; the family is the claims of one figure with one outcome.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from bench.errors import UserError
from plots.analysis import checks, registry, stats
from plots.analysis.frames import Record
from plots.analysis.registry import PRESETS, Claim
from plots.analysis.stats import Interval

Status = Literal[
    "reproduced",
    "reproduced but smaller",
    "not reproduced",
    "inconclusive",
    "not tested at this scale",
    "invalid",
    "invalid: saturated",
]
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on a claim. The interval is unadjusted; ``p_holm`` is for the family.

    Attributes:
        claim: what was claimed.
        status: the verdict.
        preset: where the runs come from.
        interval: of the effect; for a magnitude, of the ratio.
        p: of "not as claimed"; None where a gate closed, or where the seeds do not differ.
        p_holm: the same, adjusted.
        mde: minimum detectable effect, see ``stats.minimum_detectable_effect``; for a magnitude,
            the factor; NaN where the seeds do not differ.
        worst: the effect that is least as claimed; NaN without seeds.
        worst_seed: its seed.
        reason: why, or a note.
    """

    claim: Claim
    status: Status
    preset: str
    interval: Interval
    p: float | None
    p_holm: float | None
    mde: float
    worst: float
    worst_seed: int | None
    reason: str

    @property
    def text(self) -> str:
        """The status with the scale it speaks of."""
        no_scale = self.status == "not tested at this scale" or self.status.startswith("invalid")
        return self.status if no_scale else f"{self.status} at {self.preset} scale"


def verdict(
    effects: ArrayLike,
    claim: Claim,
    preset: str,
    failures: Sequence[str] = (),
    saturated: str = "",
    note: str = "",
    seeds: Sequence[int] | None = None,
) -> Verdict:
    """Judge one claim by itself.

    Gates, the first that applies wins: preset below the claim's minimum, too few seeds, failed
    checks, arms at a bound of the win rate. Estimate, interval, minimum detectable effect and worst
    seed are given even where a gate closes.

    Args:
        effects: [S] one effect per seed, in the claim's sign.
        claim: what was claimed.
        preset: where the runs come from.
        failures: why the runs cannot judge the claim.
        saturated: how the arms are at a bound, if they are; see ``checks.saturation``.
        note: shown beside the verdict.
        seeds: [S] their numbers; None: 0, 1, ...

    Raises:
        UserError: an unknown preset.
    """
    if preset not in PRESETS:
        raise UserError(f"preset {preset!r}: verdicts know {', '.join(PRESETS)}")
    x = np.asarray(effects, dtype=np.float64)
    interval = _interval(x, claim)
    status: Status
    p = None
    if PRESETS.index(preset) < PRESETS.index(claim.minimum_preset):
        status, reason = "not tested at this scale", f"needs preset {claim.minimum_preset}"
    elif len(x) < claim.minimum_seeds:
        status, reason = "inconclusive", f"{len(x)} of {claim.minimum_seeds} seeds complete"
    elif failures:
        status, reason = "invalid", "; ".join(failures)
    elif saturated:
        status, reason = "invalid: saturated", saturated
    else:
        p = _p_value(x, claim) if stats.differ(x) else None
        status, reason = _compare(interval, claim), note
    at = int(_unlike(x, claim).argmax()) if len(x) else None
    numbers = range(len(x)) if seeds is None else seeds
    return Verdict(
        claim=claim,
        status=status,
        preset=preset,
        interval=interval,
        p=p,
        p_holm=p,
        mde=_detectable(x, claim),
        worst=math.nan if at is None else float(x[at]),
        worst_seed=None if at is None else int(numbers[at]),
        reason=reason,
    )


def _interval(x: stats.FloatArray, claim: Claim) -> Interval:
    if claim.kind == "magnitude":
        logs = stats.t_interval(np.log(x))
        estimate, lo, hi = np.exp([logs.estimate, logs.lo, logs.hi]).tolist()
        return Interval(estimate, lo, hi, logs.n, logs.level)
    return stats.t_interval(x, 0.90 if claim.kind == "equivalence" else 0.95)


def _detectable(x: stats.FloatArray, claim: Claim) -> float:
    if claim.kind == "magnitude":
        return math.exp(stats.minimum_detectable_effect(np.log(x)))
    return stats.minimum_detectable_effect(x)


def _unlike(x: stats.FloatArray, claim: Claim) -> stats.FloatArray:
    """Return how far each effect is from what the claim says, the largest for the worst."""
    match claim.kind:
        case "direction" | "at_least":
            return -x
        case "equivalence":
            return np.abs(x)
        case "magnitude":
            assert claim.published is not None
            return np.abs(np.log(x / claim.published))


def _p_value(x: stats.FloatArray, claim: Claim) -> float:
    """Return p such that p < 0.05 exactly when the interval alone says reproduced."""
    match claim.kind:
        case "direction":
            return stats.p_above(x)
        case "at_least":
            return stats.p_above(x, -claim.margin)
        case "equivalence":
            return stats.p_equivalent(x, claim.margin)
        case "magnitude":
            assert claim.published is not None
            logs = np.log(x / claim.published)
            return max(stats.p_above(logs, np.log(0.8)), stats.p_above(-logs, -np.log(1.25)))


def _compare(interval: Interval, claim: Claim) -> Status:
    lo, hi, margin = interval.lo, interval.hi, claim.margin
    match claim.kind:
        case "direction":
            if lo > 0:
                return "reproduced but smaller" if hi < margin else "reproduced"
            return "not reproduced" if hi < margin else "inconclusive"
        case "at_least":
            reproduced, refuted = lo > -margin, hi < -margin
        case "equivalence":
            reproduced, refuted = -margin < lo and hi < margin, hi < -margin or lo > margin
        case "magnitude":
            assert claim.published is not None
            low, high = 0.8 * claim.published, 1.25 * claim.published
            reproduced, refuted = low < lo and hi < high, hi < low or lo > high
    return "reproduced" if reproduced else "not reproduced" if refuted else "inconclusive"


def adjust(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Apply Holm's correction to the verdicts of one family.

    A claim stays reproduced only if its adjusted p is below 0.05. A claim without a p-value, as
    behind a closed gate, counts in the family with p = 1. "Not reproduced" is by the unadjusted
    interval.
    """
    raised = stats.holm([1.0 if v.p is None else v.p for v in verdicts])
    adjusted = []
    for one, p_holm in zip(verdicts, raised, strict=True):
        if one.p is None:
            adjusted.append(one)
            continue
        one = replace(one, p_holm=p_holm)
        if one.status.startswith("reproduced") and p_holm >= ALPHA:
            family = f"the figure's {len(verdicts)} claims on {one.claim.outcome}"
            reason = f"not beyond chance among {family} (Holm)"
            one = replace(one, status="inconclusive", reason=reason)
        adjusted.append(one)
    return adjusted


def judge(claims: Sequence[Claim], figure: str, record: Record, preset: str) -> list[Verdict]:
    """Judge all claims registered for a figure on a record, in their order.

    A verdict on an untuned algorithm has a note that says so.

    Raises:
        UserError: an unknown preset.
        ValueError: the record has two runs for one algorithm, N and seed.
    """
    single = [_judge(claim, record, preset) for claim in claims if claim.figure == figure]
    verdicts: dict[str, Verdict] = {}
    for outcome in {v.claim.outcome for v in single}:
        family = [v for v in single if v.claim.outcome == outcome]
        verdicts |= {v.claim.id: v for v in adjust(family)}
    return [verdicts[v.claim.id] for v in single]


def _judge(claim: Claim, record: Record, preset: str) -> Verdict:
    arm = record.where(lr_schedule=claim.lr_schedule)
    found = claim.effects(arm)
    failures = checks.failed_checks(
        arm,
        claim.algorithms,
        claim.n,
        claim.arms,
        gain_at_end=registry.ESTIMANDS[claim.estimand].gain_at_end,
    )
    failures += [found.failure] if found.failure else []
    without = arm.untuned()
    untuned = [name for name in claim.algorithms if name in without]
    notes = [found.note, f"untuned: {', '.join(untuned)}" if untuned else ""]
    return verdict(
        found.values,
        claim,
        preset,
        failures,
        checks.saturation(found, claim.margin, record.ceiling),
        "; ".join(filter(None, notes)),
        found.seeds,
    )
