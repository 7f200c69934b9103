"""The search for hyper-parameters, at N = 1, on tuning seeds and prompts that no figure reports on.

Two passes per algorithm, fixed before the first run: every learning rate of the algorithm's grid at
the middle of its coefficient's, then every coefficient at the best learning rate. The choice is the
highest mean gold win rate after the last update. A diverged run counts as 0. No schedule but N = 1
is ever run here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import pandas as pd

from bench.algorithms import ALGORITHMS
from bench.algorithms.base import SearchGrid
from bench.config import EvalConfig, RunConfig
from bench.experiments.presets import Preset
from bench.experiments.tuned import Tuned
from bench.staleness import ON_POLICY

SEEDS = (1000, 1001)


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

    def neighbours(self) -> list[Trial]:
        """Return the points beside this one on either of its grids."""
        found = [
            replace(self, learning_rate=rate)
            for rate in _beside(self.learning_rate, self.grid.learning_rates)
        ]
        if self.coefficient is not None:
            found += [
                replace(self, coefficient=value)
                for value in _beside(self.coefficient, self.grid.values)
            ]
        return found

    def at_edge(self) -> tuple[str, ...]:
        """Return the hyper-parameters that are at an end of their grid."""
        grids = {"learning_rate": (self.learning_rate, self.grid.learning_rates)}
        if self.coefficient is not None and self.grid.coefficient is not None:
            grids[self.grid.coefficient] = (self.coefficient, self.grid.values)
        return tuple(name for name, (value, grid) in grids.items() if len(_beside(value, grid)) < 2)

    def difference_from(self, other: Trial) -> str:
        """Return the hyper-parameter in which ``other`` differs, and its value there."""
        if other.learning_rate != self.learning_rate:
            return f"learning_rate = {other.learning_rate:g}"
        return f"{self.grid.coefficient} = {other.coefficient:g}"


Scores = Mapping[Trial, Sequence[float]]  # win rates on the tuning split, one per seed
Run = Callable[[Sequence[RunConfig]], Sequence[float]]  # trains each, returns its score


def first_pass(algorithm: str) -> list[Trial]:
    """Return the trials of the learning rate."""
    grid = ALGORITHMS[algorithm].grid
    return [Trial(algorithm, rate, grid.middle) for rate in grid.learning_rates]


def second_pass(leader: Trial) -> list[Trial]:
    """Return the trials of the coefficient, at the leader's learning rate."""
    return [replace(leader, coefficient=value) for value in leader.grid.values]


def best(scores: Scores) -> Trial:
    """Return the trial with the highest mean.

    Of equal ones the smallest learning rate counts, then the middle of the coefficient's grid.
    """

    def rank(trial: Trial) -> tuple[float, float, bool]:
        middle = trial.coefficient == trial.grid.middle
        return _mean(scores[trial]), -trial.learning_rate, middle

    return max(scores, key=rank)


def search(preset: Preset, algorithms: Sequence[str], run: Run) -> dict[Trial, list[float]]:
    """Return the scores of all trials of both passes."""
    scores = _scores(preset, [trial for name in algorithms for trial in first_pass(name)], run)
    leaders = [best(_of(scores, name)) for name in algorithms]
    more = [trial for leader in leaders for trial in second_pass(leader) if trial not in scores]
    return scores | _scores(preset, more, run)


def choose(preset: Preset, scores: Scores, algorithm: str) -> Tuned:
    """Return the choice for an algorithm, with its edges and ties."""
    own = _of(scores, algorithm)
    chosen = best(own)
    prompts = config_of(preset, chosen, SEEDS[0]).evaluation.prompts
    ties = [
        chosen.difference_from(other)
        for other in chosen.neighbours()
        if other in own and tied(own[chosen], own[other], prompts)
    ]
    return Tuned(
        learning_rate=chosen.learning_rate,
        algorithm_params=chosen.params(preset),
        at_edge=chosen.at_edge(),
        tied_with=tuple(ties),
    )


def tied(first: Sequence[float], second: Sequence[float], prompts: int) -> bool:
    """Return whether the metric cannot tell two trials apart.

    They are tied if their mean win rates differ by at most two standard errors of the difference.
    Each win rate is a share of ``prompts`` prompts per seed.
    """
    means = _mean(first), _mean(second)
    rows = prompts * len(first)
    error = sqrt(sum(mean * (1 - mean) / rows for mean in means))
    return abs(means[0] - means[1]) <= 2 * error


def table(preset: Preset, scores: Scores) -> pd.DataFrame:
    """Return one row per trial, the choice of each algorithm marked."""
    names = sorted({trial.algorithm for trial in scores})
    chosen = {name: best(_of(scores, name)) for name in names}
    rows = [
        {
            "preset": preset.name,
            "algorithm": trial.algorithm,
            "learning_rate": trial.learning_rate,
            "coefficient": trial.coefficient,
            "win_rate": _mean(values),
            "win_rate_min": min(values),
            "win_rate_max": max(values),
            "n_seeds": len(values),
            "chosen": trial == chosen[trial.algorithm],
        }
        for trial, values in scores.items()
    ]
    return pd.DataFrame(rows).sort_values(
        ["algorithm", "learning_rate", "coefficient"], ignore_index=True
    )


def config_of(preset: Preset, trial: Trial, seed: int) -> RunConfig:
    """Return the run of a trial: on-policy, evaluated on the tuning split after its last update."""
    untuned = replace(preset, tuned={})
    config = untuned.run_config(trial.algorithm, ON_POLICY, seed=seed)
    evaluation = EvalConfig(
        every=config.updates,
        prompts=config.evaluation.prompts,
        split="tuning",
        temperature=config.evaluation.temperature,
        max_completion_tokens=config.evaluation.max_completion_tokens,
        samples=0,
    )
    algorithm = ALGORITHMS[trial.algorithm](**trial.params(preset))
    return replace(
        config, learning_rate=trial.learning_rate, algorithm=algorithm, evaluation=evaluation
    )


def _scores(preset: Preset, trials: Sequence[Trial], run: Run) -> dict[Trial, list[float]]:
    configs = [config_of(preset, trial, seed) for trial in trials for seed in SEEDS]
    scores = iter(run(configs))
    return {trial: [next(scores) for _ in SEEDS] for trial in trials}


def _of(scores: Scores, algorithm: str) -> dict[Trial, Sequence[float]]:
    return {trial: values for trial, values in scores.items() if trial.algorithm == algorithm}


def _beside(value: float, grid: Sequence[float]) -> list[float]:
    at = list(grid).index(value)
    return [grid[i] for i in (at - 1, at + 1) if 0 <= i < len(grid)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
