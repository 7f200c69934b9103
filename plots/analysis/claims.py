"""Claims, registered in ``reproductions/claims.toml`` before the runs, and their verdicts.

The verdict is a pure function of per-seed effects and a claim. Across the claims of one figure
Holm's correction is applied to "reproduced": the family is all claims registered for the figure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from bench.errors import UserError
from plots.analysis import estimands, stats
from plots.analysis.frames import Record
from plots.analysis.stats import Interval

Kind = Literal["direction", "at_least", "equivalence", "magnitude"]
Status = Literal[
    "reproduced",
    "reproduced but smaller",
    "not reproduced",
    "inconclusive",
    "not tested at this scale",
    "invalid",
]
PRESETS = ("smoke", "tiny", "small", "paper")
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One row of ``claims.toml``.

    ``kind`` says when the claim is reproduced: ``direction`` if the 95% interval lies above 0,
    ``at_least`` if it lies above minus the margin (not worse), ``equivalence`` if the 90% interval
    lies within plus or minus the margin (TOST), ``magnitude`` if the 95% interval of a ratio lies
    within 0.8 to 1.25 times the published one. For ``direction`` the margin is the smallest effect
    of interest: an interval wholly below it refutes the claim.
    """

    id: str
    figure: str
    sentence: str
    source: str
    estimand: str
    definition: str  # the estimand in words
    unit: str
    algorithms: tuple[str, ...]
    n: tuple[int, ...]
    kind: Kind
    margin: float
    margin_reason: str
    published: float | None = None
    lr_schedule: str = "per_update"
    minimum_preset: str = "tiny"
    minimum_seeds: int = 5

    def __post_init__(self) -> None:
        """Refuse a claim that cannot be judged.

        Raises:
            UserError: an unknown estimand, kind or preset, or a negative margin.
        """
        allowed = {
            "estimand": tuple(estimands.ESTIMANDS),
            "kind": Kind.__args__,  # type: ignore[attr-defined]
            "minimum_preset": PRESETS,
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise UserError(
                    f"claim {self.id}: {name} = {getattr(self, name)!r}: "
                    f"allowed are {', '.join(values)}"
                )
        if self.margin < 0 or (self.margin == 0 and self.kind in ("equivalence", "at_least")):
            raise UserError(f"claim {self.id}: margin = {self.margin}: must be above 0")
        if self.kind == "magnitude" and self.published is None:
            raise UserError(f"claim {self.id}: a magnitude needs the published ratio")


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim. The interval is unadjusted; ``p_holm`` is for the figure."""

    claim: Claim
    status: Status
    preset: str
    interval: Interval
    p: float  # of "not as claimed"; 1 where a gate closed
    p_holm: float
    reason: str

    @property
    def text(self) -> str:
        """The status with the scale it speaks of."""
        no_scale = ("not tested at this scale", "invalid")
        return self.status if self.status in no_scale else f"{self.status} at {self.preset} scale"


def load(path: Path) -> list[Claim]:
    """Read the claims.

    Raises:
        UserError: the file is missing, is not TOML, or a row has a wrong or missing field.
    """
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["claim"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as claims: {error}") from error
    known = {field.name for field in fields(Claim)}
    claims = []
    for row in rows:
        unknown = sorted(set(row) - known)
        if unknown:
            raise UserError(
                f"{path}: claim {row.get('id')}: unknown {', '.join(unknown)}; "
                f"allowed are {', '.join(sorted(known))}"
            )
        lists = {name: tuple(row[name]) for name in ("algorithms", "n") if name in row}
        try:
            claims.append(Claim(**{**row, **lists}))
        except TypeError as error:
            raise UserError(f"{path}: claim {row.get('id')}: {error}") from error
    return claims


def verdict(
    effects: ArrayLike, claim: Claim, preset: str, failures: Sequence[str] = (), note: str = ""
) -> Verdict:
    """Judge one claim by itself.

    Gates, the first that applies wins: preset below the claim's minimum, too few seeds, failed
    checks. The estimate and its interval are given even where a gate closes.

    Args:
        effects: [S] one effect per seed, in the claim's sign.
        claim: what was claimed.
        preset: where the runs come from.
        failures: why the runs cannot judge the claim.
        note: shown beside the verdict.

    Raises:
        UserError: an unknown preset.
    """
    if preset not in PRESETS:
        raise UserError(f"preset {preset!r}: verdicts know {', '.join(PRESETS)}")
    x = np.asarray(effects, dtype=np.float64)
    interval = _interval(x, claim)
    status: Status
    p = 1.0
    if PRESETS.index(preset) < PRESETS.index(claim.minimum_preset):
        status, reason = "not tested at this scale", f"needs preset {claim.minimum_preset}"
    elif len(x) < claim.minimum_seeds:
        status, reason = "inconclusive", f"{len(x)} of {claim.minimum_seeds} seeds complete"
    elif failures:
        status, reason = "invalid", "; ".join(failures)
    else:
        p = _p_value(x, claim)
        status, reason = _compare(interval, claim), note
    return Verdict(claim, status, preset, interval, p, p, reason)


def _interval(x: stats.FloatArray, claim: Claim) -> Interval:
    if claim.kind == "magnitude":
        logs = stats.t_interval(np.log(x))
        estimate, lo, hi = np.exp([logs.estimate, logs.lo, logs.hi]).tolist()
        return Interval(estimate, lo, hi, logs.n, logs.level)
    return stats.t_interval(x, 0.90 if claim.kind == "equivalence" else 0.95)


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
    """Apply Holm's correction to the verdicts of one figure.

    A claim stays reproduced only if its adjusted p is below 0.05. A claim behind a closed gate
    counts in the family with p = 1. "Not reproduced" is by the unadjusted interval.
    """
    adjusted = []
    for one, p_holm in zip(verdicts, stats.holm([v.p for v in verdicts]), strict=True):
        one = replace(one, p_holm=p_holm)
        if one.status.startswith("reproduced") and p_holm >= ALPHA:
            reason = f"not beyond chance among the figure's {len(verdicts)} claims (Holm)"
            one = replace(one, status="inconclusive", reason=reason)
        adjusted.append(one)
    return adjusted


def judge(claims: Sequence[Claim], figure: str, record: Record, preset: str) -> list[Verdict]:
    """Judge all claims registered for a figure on a record.

    A verdict on an untuned algorithm has a note that says so.

    Raises:
        UserError: an unknown preset.
        ValueError: the record has two runs for one algorithm, N and seed.
    """
    verdicts = []
    for claim in claims:
        if claim.figure != figure:
            continue
        arm = record.where(lr_schedule=claim.lr_schedule)
        found = estimands.ESTIMANDS[claim.estimand](arm, claim.algorithms, claim.n)
        failures = estimands.failed_checks(arm, claim.algorithms, claim.n)
        failures += [found.failure] if found.failure else []
        untuned = [name for name in claim.algorithms if name in arm.untuned()]
        notes = [found.note, f"untuned: {', '.join(untuned)}" if untuned else ""]
        note = "; ".join(filter(None, notes))
        verdicts.append(verdict(found.values, claim, preset, failures, note))
    return adjust(verdicts)
