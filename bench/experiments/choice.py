"""What the search chose: an algorithm's hyper-parameters, and what cannot be told from them.

The choice is the trial with the highest mean area. A coefficient stays at the middle of its grid,
which is the authors' value where they have one, unless another one is better by more than a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from statistics import fmean, stdev

import pandas as pd

from bench.experiments.preset import Preset
from bench.experiments.search import Scores, Trial, areas_of, best, grid_of, trials_of, values_tried
from bench.experiments.tuned import Tuned


def pick(scores: Scores) -> Trial:
    """Return the choice among the trials of one algorithm.

    It is the best one, or at the same rate the middle coefficient where the two are tied.
    """
    leader = best(scores)
    usual = replace(leader, coefficient=leader.grid.middle)
    tie = usual in scores and tied(areas_of(scores[leader]), areas_of(scores[usual]))
    return usual if tie else leader


def choose(preset: Preset, scores: Scores, algorithm: str) -> Tuned:
    """Return the choice for an algorithm, with its edges and ties."""
    own = trials_of(scores, algorithm)
    chosen = pick(own)
    areas = areas_of(own[chosen])
    names = chosen.fields()
    tried = {field: values_tried(own, chosen, field) for field in names}
    at = {field: getattr(chosen, field) for field in names}
    return Tuned(
        learning_rate=chosen.learning_rate,
        algorithm_params=chosen.params(preset),
        metric="area",
        value=fmean(areas),
        standard_error=_standard_error(areas),
        at_edge=tuple(names[f] for f in names if at[f] in (tried[f][0], tried[f][-1])),
        beyond_grid=tuple(names[f] for f in names if at[f] not in grid_of(chosen, f)),
        tied_with=tuple(chosen.difference_from(other) for other in _ties(own, chosen)),
    )


def tied(first: Sequence[float], second: Sequence[float]) -> bool:
    """Return whether two trials cannot be told apart.

    They are tied if their mean areas differ by at most two standard errors of the difference over
    seeds: of the paired differences from three seeds on, else of the two means.

    Args:
        first: areas, one per seed, of two seeds or more.
        second: those of the other trial, on the same seeds.
    """
    differences = [one - other for one, other in zip(first, second, strict=True)]
    if len(differences) >= 3:
        error = _standard_error(differences)
    else:
        error = sqrt(_standard_error(first) ** 2 + _standard_error(second) ** 2)
    return abs(fmean(differences)) <= 2 * error


def table(preset: Preset, scores: Scores, model: str | None = None) -> pd.DataFrame:
    """Return one row per trial; of each algorithm the choice is marked, and what ties with it.

    ``area`` and ``win_rate``, which is the final one, are means over seeds.
    """
    names = sorted({trial.algorithm for trial in scores})
    chosen = {name: pick(trials_of(scores, name)) for name in names}
    ties = {trial for name in names for trial in _ties(trials_of(scores, name), chosen[name])}
    rows = [
        {
            "preset": preset.name,
            "model": model or preset.models[0],
            "algorithm": trial.algorithm,
            "learning_rate": trial.learning_rate,
            "coefficient": trial.coefficient,
            "area": fmean(areas_of(values)),
            "area_standard_error": _standard_error(areas_of(values)),
            "win_rate": fmean(value.final for value in values),
            "n_seeds": len(values),
            "chosen": trial == chosen[trial.algorithm],
            "tied": trial in ties,
        }
        for trial, values in scores.items()
    ]
    return pd.DataFrame(rows).sort_values(
        ["algorithm", "learning_rate", "coefficient"], ignore_index=True
    )


def _ties(own: Scores, chosen: Trial) -> list[Trial]:
    """Return the other trials of an algorithm that cannot be told from its choice, in order."""
    areas = areas_of(own[chosen])
    found = [t for t in own if t != chosen and tied(areas, areas_of(own[t]))]
    return sorted(found, key=lambda t: (t.learning_rate, t.coefficient or 0.0))


def _standard_error(values: Sequence[float]) -> float:
    return stdev(values) / sqrt(len(values))
