"""The claims, registered in ``reproductions/claims.toml`` before the runs that judge them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from bench.errors import UserError
from plots.analysis import (
    arms,
    estimands,
    lengths,
    overoptimisation,
    rates,
    sizes,
    speed,
    staleness,
    warning,
)
from plots.analysis.estimands import Effects
from plots.analysis.frames import Record

Kind = Literal["direction", "at_least", "equivalence", "magnitude"]
Outcome = Literal["final", "area", "early", "frontier", "diagnostic", "time"]
PRESETS = ("smoke", "tiny", "worth", "small", "paper")


COLUMNS = {"final": "win_rate", "area": "win_rate_area"}  # of ``Record.final``, by outcome


@dataclass(frozen=True)
class Estimand:
    """A function from a record to one effect per seed, and what it can be asked of."""

    effects: Callable[..., Effects]  # of record, algorithms, n and, for a win rate, its column
    outcomes: tuple[Outcome, ...]
    algorithms: int  # how many it compares
    gain_at_end: bool = True  # it means nothing unless final policies at N = 1 are better than SFT
    of_arms: bool = False  # of record, algorithms, arms and, for a win rate, its column


ESTIMANDS = {
    estimand.effects.__name__: estimand
    for estimand in (
        Estimand(estimands.fall_per_octave, ("final", "area"), 1),
        Estimand(estimands.difference_between_n, ("final", "area"), 1),
        Estimand(estimands.logarithmic_over_linear, ("final", "area"), 1),
        Estimand(estimands.change_at_matched_kl, ("frontier",), 1),
        Estimand(estimands.difference_at_n, ("final", "area"), 2),
        Estimand(estimands.retention_slope_difference, ("final", "area"), 2),
        Estimand(estimands.overlapped_minus_split, ("final", "area"), 1),
        Estimand(estimands.kl_saved_by_overlap, ("frontier",), 1),
        Estimand(lengths.overlapped_minus_split_at_equal_length, ("final",), 1),
        Estimand(sizes.policy_size_interaction, ("final", "area"), 1),
        Estimand(sizes.reward_size_interaction, ("final", "area"), 1),
        Estimand(sizes.reward_size_at_matched_kl, ("frontier",), 1),
        Estimand(overoptimisation.fall_while_proxy_rises, ("final",), 1, gain_at_end=False),
        Estimand(rates.fall_of_stable_rate, ("final",), 1, gain_at_end=False),
        Estimand(rates.short_of_inverse, ("final",), 1, gain_at_end=False),
        Estimand(staleness.retention_slope, ("final", "area"), 1),
        Estimand(staleness.earlier_difference, ("early",), 2),
        Estimand(staleness.overtaking_per_octave, ("final", "area"), 6, gain_at_end=False),
        Estimand(warning.octaves_before_win_rate, ("diagnostic",), 1),
        Estimand(warning.cosine_rise_per_octave, ("diagnostic",), 1, gain_at_end=False),
        Estimand(arms.arm_gain, ("final", "area"), 1, of_arms=True),
        Estimand(arms.arm_gain_below_largest, ("final", "area"), 1, of_arms=True),
        Estimand(arms.kl_at_matched_win_rate, ("frontier",), 1, of_arms=True),
        Estimand(arms.times_as_fast, ("time",), 1, of_arms=True),
        Estimand(speed.speed_up, ("time",), 1),
        Estimand(speed.speed_up_per_size, ("time",), 1),
        Estimand(speed.short_of_ideal, ("time",), 1),
        Estimand(speed.engine_gain, ("time",), 0),
        Estimand(speed.engine_gain_per_size, ("time",), 0),
    )
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One row of ``claims.toml``.

    ``kind`` says when the claim is reproduced: ``direction`` if the 95% interval lies above 0,
    ``at_least`` if it lies above minus the margin (not worse), ``equivalence`` if the 90% interval
    lies within plus or minus the margin (TOST), ``magnitude`` if the 95% interval of a ratio lies
    within 0.8 to 1.25 times the published one. For ``direction`` the margin is the smallest effect
    of interest: an interval wholly below it refutes the claim.

    ``outcome`` is the number per run that effects are computed from: the ``final`` win rate, the
    ``area`` under its learning curve, that of the first half of training (``early``), the win rate
    at matched KL or the KL at matched win rate (``frontier``), a ``diagnostic`` of its steps, or
    ``time``.
    """

    id: str
    figure: str
    sentence: str
    source: str
    estimand: str
    outcome: Outcome
    definition: str  # the estimand in words
    unit: str
    algorithms: tuple[str, ...]
    n: tuple[int, ...]
    kind: Kind
    margin: float
    margin_reason: str
    arms: tuple[str, ...] = ()  # as the figure names them; the others are compared with the first
    variant_of: str = ""  # the claim whose estimand is the primary one; empty: this claim's is
    published: float | None = None
    published_seeds: int = 1  # that the published number is from
    lr_schedule: str = "per_update"
    minimum_preset: str = "tiny"
    minimum_seeds: int = 5

    def __post_init__(self) -> None:
        """Refuse a claim that cannot be judged.

        Raises:
            UserError: an unknown estimand, outcome, kind or preset, or a number out of range.
        """
        self._check("estimand", self.estimand, ESTIMANDS)
        estimand = ESTIMANDS[self.estimand]
        self._check("outcome", self.outcome, estimand.outcomes)
        self._check("kind", self.kind, get_args(Kind))
        self._check("minimum_preset", self.minimum_preset, PRESETS)
        if len(self.algorithms) != estimand.algorithms:
            raise UserError(
                f"claim {self.id}: algorithms = {list(self.algorithms)}: {self.estimand} compares "
                f"{estimand.algorithms}"
            )
        if (len(self.arms) > 1) != estimand.of_arms:
            raise UserError(
                f"claim {self.id}: arms = {list(self.arms)}: {self.estimand} compares "
                f"{'two or more' if estimand.of_arms else 'none'}"
            )
        if list(self.n) != sorted(set(self.n)) or any(n < 1 for n in self.n):
            raise UserError(f"claim {self.id}: n = {list(self.n)}: must rise, from at least 1")
        if self.margin < 0 or (self.margin == 0 and self.kind in ("equivalence", "at_least")):
            raise UserError(f"claim {self.id}: margin = {self.margin}: must be above 0")
        if self.kind == "magnitude" and self.published is None:
            raise UserError(f"claim {self.id}: a magnitude needs the published ratio")

    def effects(self, record: Record) -> Effects:
        """Return the claim's effects on a record.

        Raises:
            ValueError: the record has two runs for one algorithm, N and seed.
        """
        column = (COLUMNS[self.outcome],) if self.outcome in COLUMNS else ()
        compared = self.arms or self.n
        return ESTIMANDS[self.estimand].effects(record, self.algorithms, compared, *column)

    def _check(self, name: str, value: str, allowed: Mapping[str, Any] | tuple[str, ...]) -> None:
        if value not in allowed:
            raise UserError(
                f"claim {self.id}: {name} = {value!r}: allowed are {', '.join(allowed)}"
            )


def load(path: Path) -> list[Claim]:
    """Read the claims. What a row with ``variant_of`` does not say, it has from that claim.

    Raises:
        UserError: the file is missing, is not TOML, or a row is wrong; the line says which.
    """
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["claim"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as claims: {error}") from error
    primary: dict[str, dict[str, Any]] = {}
    claims: dict[str, Claim] = {}
    for row in rows:
        of = row.get("variant_of")
        if of is not None and of not in primary:
            raise UserError(
                f"{path}: claim {row.get('id')}: variant_of = {of!r}: must be a claim above it "
                "that is no variant itself"
            )
        claim = _claim(path, row if of is None else {**primary[of], **row})
        if claim.id in claims:
            raise UserError(f"{path}: claim {claim.id}: is there twice")
        claims[claim.id] = claim
        if of is None:
            primary[claim.id] = row
    return list(claims.values())


def _claim(path: Path, row: Mapping[str, Any]) -> Claim:
    known = {field.name: field for field in fields(Claim)}
    where = f"{path}: claim {row.get('id')}"
    if unknown := sorted(set(row) - set(known)):
        raise UserError(
            f"{where}: unknown {', '.join(unknown)}; allowed are {', '.join(sorted(known))}"
        )
    needed = [name for name, field in known.items() if field.default is MISSING]
    if missing := [name for name in needed if name not in row]:
        raise UserError(f"{where}: missing {', '.join(missing)}")
    values = {name: _value(where, known[name], value) for name, value in row.items()}
    try:
        return Claim(**values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _value(where: str, field: Field[Any], value: object) -> Any:
    """Return a value of TOML as the field's type."""
    if field.type in ("tuple[str, ...]", "tuple[int, ...]"):
        of = str if "str" in field.type else int
        if isinstance(value, list) and all(type(part) is of for part in value):
            return tuple(value)
        expected = f"a list of {'texts' if of is str else 'whole numbers'}"
    elif field.type in ("float", "float | None"):
        if type(value) in (int, float):
            return value
        expected = "a number"
    elif field.type == "int":
        if type(value) is int:
            return value
        expected = "a whole number"
    elif isinstance(value, str):
        return value
    else:
        expected = "a text"
    raise UserError(f"{where}: {field.name} = {value!r}: must be {expected}")
