"""The search for hyper-parameters, at N = 1, on tuning seeds and prompts that no figure reports on.

Two passes per algorithm, fixed before the first run: every learning rate of the algorithm's grid at
the middle of its coefficient's, then every coefficient at the best learning rate. A pass whose best
value lies at an end of what was tried goes on beyond it. The choice is the highest mean area under
the learning curve: the final win rate of an easy task is the same for many (``choice``). A diverged
run counts as 0. No schedule but N = 1 is ever run here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

from bench.algorithms import ALGORITHMS
from bench.algorithms.base import SearchGrid
from bench.config import RunConfig
from bench.experiments.preset import Preset
from bench.staleness import ON_POLICY

FIRST_SEED = 1000
MOST_BEYOND = 3  # values that are tried beyond an end of a grid

Field = Literal["learning_rate", "coefficient"]  # of a trial: what a pass varies


@dataclass(frozen=True)
class Trial:
    """One point of the search; ``coefficient`` is None where the algorithm's grid has none."""

    algorithm: str
    learning_rate: float
    coefficient: float | None

    @property
    def grid(self) -> SearchGrid:
        """The algorithm's grid."""
        return ALGORITHMS[self.algorithm].grid

    def params(self, preset: Preset) -> dict[str, Any]:
        """Return the hyper-parameters of the algorithm at this point."""
        params: dict[str, Any] = {}
        if self.algorithm in preset.completions_per_prompt:
            params["completions_per_prompt"] = preset.completions_per_prompt[self.algorithm]
        if self.coefficient is not None:
            assert self.grid.coefficient is not None
            params[self.grid.coefficient] = self.coefficient
        return params

    def fields(self) -> dict[Field, str]:
        """Return the fields that the search varies, with the names of the hyper-parameters."""
        coefficient = self.grid.coefficient
        rate: dict[Field, str] = {"learning_rate": "learning_rate"}
        return rate if coefficient is None else {**rate, "coefficient": coefficient}

    def difference_from(self, other: Trial) -> str:
        """Return the hyper-parameters in which ``other`` differs, and their values there."""
        return " and ".join(
            f"{name} = {getattr(other, field):g}"
            for field, name in self.fields().items()
            if getattr(other, field) != getattr(self, field)
        )


@dataclass(frozen=True)
class Score:
    """What one run of a trial reached, as gold win rates on the tuning split."""

    area: float  # mean over training
    final: float  # after the last update


Scores = Mapping[Trial, Sequence[Score]]  # one per seed, in the same order for all trials
Run = Callable[[Sequence[RunConfig]], Sequence[Score]]  # trains each


def tuning_seeds(count: int) -> tuple[int, ...]:
    """Return this many seeds that no figure has."""
    return tuple(range(FIRST_SEED, FIRST_SEED + count))


def area(steps: Sequence[float], win_rates: Sequence[float]) -> float:
    """Return the mean win rate over training: the area under its curve, by the trapezoid rule.

    Args:
        steps: updates done at each evaluation, in order, from 0 on.
        win_rates: of these evaluations.
    """
    parts = zip(pairwise(steps), pairwise(win_rates), strict=True)
    whole = sum((end - start) * (left + right) / 2 for (start, end), (left, right) in parts)
    return whole / (steps[-1] - steps[0])


def first_pass(algorithm: str) -> list[Trial]:
    """Return the trials of the learning rate."""
    grid = ALGORITHMS[algorithm].grid
    return [Trial(algorithm, rate, grid.middle) for rate in grid.learning_rates]


def second_pass(leader: Trial) -> list[Trial]:
    """Return the trials of the coefficient, at the leader's learning rate."""
    return [replace(leader, coefficient=value) for value in leader.grid.values]


def beyond(scores: Scores, leader: Trial, field: Field) -> Trial | None:
    """Return the trial that continues a pass beyond the end at which its leader lies.

    It is one geometric step away, of the ratio of the last two values. None: the leader does not
    lie at an end, or ``MOST_BEYOND`` steps were made, or there is no ratio, next to a 0.
    """
    value, tried = getattr(leader, field), values_tried(scores, leader, field)
    if value not in (tried[0], tried[-1]) or len(tried) < 2:
        return None
    beside = tried[1] if value == tried[0] else tried[-2]
    if 0 in (value, beside) or len(set(tried) - set(grid_of(leader, field))) == MOST_BEYOND:
        return None
    further = float(f"{value * value / beside:.4g}")
    if field == "learning_rate":
        return replace(leader, learning_rate=further)
    return replace(leader, coefficient=further)


def best(scores: Scores) -> Trial:
    """Return the trial with the highest mean area.

    Of equal ones the smallest learning rate counts, then the middle of the coefficient's grid.
    """

    def rank(trial: Trial) -> tuple[float, float, bool]:
        middle = trial.coefficient == trial.grid.middle
        return fmean(areas_of(scores[trial])), -trial.learning_rate, middle

    return max(scores, key=rank)


def search(
    preset: Preset,
    algorithms: Sequence[str],
    run: Run,
    *,
    seeds: Sequence[int],
    model: str | None = None,
) -> dict[Trial, list[Score]]:
    """Return the scores of all trials of both passes.

    Args:
        preset: gives every other setting.
        algorithms: the names of those to search.
        run: trains runs and returns their scores.
        seeds: of each trial, two or more.
        model: the size that is tuned; None: the preset's first.
    """
    scores: dict[Trial, list[Score]] = {}

    def score(trials: Iterable[Trial]) -> None:
        new = [trial for trial in trials if trial not in scores]
        if new:
            configs = [config_of(preset, trial, seed, model) for trial in new for seed in seeds]
            found = iter(run(configs))
            scores.update({trial: [next(found) for _ in seeds] for trial in new})

    def leaders() -> list[Trial]:
        return [best(trials_of(scores, name)) for name in algorithms]

    def extend(field: Field) -> None:
        while more := [
            trial
            for leader in leaders()
            if field in leader.fields() and (trial := beyond(scores, leader, field)) is not None
        ]:
            score(more)

    score(trial for name in algorithms for trial in first_pass(name))
    extend("learning_rate")
    score(trial for leader in leaders() for trial in second_pass(leader))
    extend("coefficient")
    return scores


def config_of(preset: Preset, trial: Trial, seed: int, model: str | None = None) -> RunConfig:
    """Return the run of a trial, whatever was chosen before: on-policy, on the tuning split."""
    config = preset.run_config(trial.algorithm, ON_POLICY, model=model, seed=seed)
    return replace(
        config,
        learning_rate=trial.learning_rate,
        algorithm=ALGORITHMS[trial.algorithm](**trial.params(preset)),
        evaluation=replace(config.evaluation, split="tuning", samples=0),
    )


def values_tried(scores: Scores, leader: Trial, field: Field) -> list[float]:
    """Return what a pass has tried of a field, in order: that of rates at the middle coefficient,
    that of coefficients at the leader's rate."""
    own = trials_of(scores, leader.algorithm)
    if field == "learning_rate":
        return sorted(t.learning_rate for t in own if t.coefficient == t.grid.middle)
    same_rate = (t for t in own if t.learning_rate == leader.learning_rate)
    return sorted(t.coefficient for t in same_rate if t.coefficient is not None)


def grid_of(trial: Trial, field: Field) -> Sequence[float]:
    """Return the values of a field that the algorithm's grid has."""
    return trial.grid.learning_rates if field == "learning_rate" else trial.grid.values


def trials_of(scores: Scores, algorithm: str) -> dict[Trial, Sequence[Score]]:
    """Return the trials of one algorithm."""
    return {trial: values for trial, values in scores.items() if trial.algorithm == algorithm}


def areas_of(values: Sequence[Score]) -> list[float]:
    """Return the areas, one per seed."""
    return [value.area for value in values]
