"""Which of a figure's series is best, and between which neighbours the order is beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from plots.analysis import overlap, stats
from plots.analysis.frames import Record

# Columns of ``final``.
CELL = ["algorithm", "arm", "model", "reward_model", "lr_schedule", "schedule_kind", "n"]
ALPHA = 0.05
NAMES = {"n": "N = {}", "reward_model": "reward model {}"}  # of a series; else the value itself


@dataclass(frozen=True)
class Ranking:
    """Series from the best to the worst.

    Attributes:
        outcome: what they are compared by, in words.
        names: of the series.
        means: over seeds.
        clear: [names - 1] whether each differs from the next beyond chance: paired by seed,
            p < .05 after Holm's correction over all neighbours.
        seeds: that have every series.
    """

    outcome: str
    names: tuple[str, ...]
    means: tuple[float, ...]
    clear: tuple[bool, ...]
    seeds: int

    @property
    def _sign(self) -> str:
        return ">" if self.means[0] >= self.means[-1] else "<"

    @property
    def short(self) -> str:
        """In a sentence who is first, where the first clear step is, and whether it decides."""
        tied = self.clear.index(True) if any(self.clear) else len(self.clear)
        best = f"{self.names[0]} is first"
        best += f", and no step among the first {tied + 1} is beyond chance" if tied else ""
        steps = f"{sum(self.clear)} of all {len(self.clear)} steps between neighbours"
        word = "decisive" if self.seeds > 1 and all(self.clear) else "not decisive"
        return f"{best}; {steps} are beyond chance ({self.seeds} seeds): the ranking is {word}."

    @property
    def sentence(self) -> str:
        """The ranking in words, and whether it is decisive."""
        parts = [f"{self.names[0]} ({self.means[0]:.4f})"]
        for name, mean, clear in zip(self.names[1:], self.means[1:], self.clear, strict=True):
            parts.append(f"{self._sign if clear else '≈'} {name} ({mean:.4f})")
        if self.seeds < 2:
            verdict = "one seed: the ranking is not decisive"
        elif all(self.clear):
            verdict = "each step is beyond chance: the ranking is decisive"
        elif any(self.clear):
            verdict = f"decisive only where it says {self._sign}; ≈ is within chance"
        else:
            verdict = "no step is beyond chance: the ranking is not decisive"
        seeds = f"{self.seeds} seed{'s' * (self.seeds != 1)}"
        return f"By {self.outcome}, over {seeds}, best first: {' '.join(parts)}; {verdict}."


def rank(record: Record, by: Sequence[str]) -> Ranking | None:
    """Rank the series of a record.

    Timed runs are ranked by the median time per update of the largest model, all others by their
    mean win rate over training, averaged over the cells that all series have.

    Args:
        record: the runs.
        by: columns of ``record.final`` that tell the series apart.

    Returns:
        None where fewer than two series have a common seed and common cells.
    """
    by = [column for column in by if column in record.final]
    table = _seconds(record) if by == ["timed"] else _areas(record, by)
    if table.empty or table.shape[1] < 2:
        return None
    means = table.mean()
    order = means.sort_values(ascending=by == ["timed"], kind="stable").index
    pairs = pairwise(order)
    sign = -1 if by == ["timed"] else 1
    p = [_p(sign * (table[a] - table[b])) for a, b in pairs]
    return Ranking(
        "median seconds per update" if by == ["timed"] else "mean win rate over training",
        tuple(order),
        tuple(float(means[name]) for name in order),
        tuple(value < ALPHA for value in stats.holm(p)),
        len(table),
    )


def _p(differences: pd.Series[float]) -> float:
    if len(differences) > 1 and not stats.differ(differences):
        return 1.0 if abs(differences.iloc[0]) < 1e-12 else 0.0
    return stats.p_above(differences)


def _areas(record: Record, by: list[str]) -> pd.DataFrame:
    """Return the mean win rate over training as seeds x series."""
    final = record.final
    if not by or final.empty:
        return pd.DataFrame()
    within = [column for column in CELL if column in final and column not in by]
    frame = final.assign(
        series=[_name(by, values) for values in final[by].itertuples(index=False)],
        cell=final[within].astype(str).agg("/".join, axis="columns") if within else "",
    )
    wide = frame.pivot_table(
        values="win_rate_area", index="seed", columns=["series", "cell"], aggfunc="mean"
    )
    series = list(dict.fromkeys(frame["series"]))
    common = set.intersection(*(set(wide[name].columns) for name in series))
    if not common:
        return pd.DataFrame()
    kept = wide.loc[:, [cell in common for cell in wide.columns.get_level_values("cell")]].dropna()
    return pd.DataFrame({name: kept[name].mean(axis="columns") for name in series})


def _name(by: Sequence[str], values: Sequence[object]) -> str:
    return ", ".join(
        NAMES.get(column, "{}").format(value) for column, value in zip(by, values, strict=True)
    )


def _seconds(record: Record) -> pd.DataFrame:
    """Return the median seconds per update of each timed arm as seeds x arms."""
    if record.updates.empty:
        return pd.DataFrame()
    medians = overlap.medians(record, record.final["algorithm"].iloc[0])
    return pd.DataFrame(
        {arm: medians[arm]["update_s"] for arm in medians.columns.unique(0)}
    ).dropna()
