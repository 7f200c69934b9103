"""The search for hyper-parameters, at N = 1, on tuning seeds and prompts that no figure reports on.

    python -m bench.tuning --preset tiny

Two passes per algorithm, fixed before the first run: the learning rate at the default
coefficient (the KL coefficient or beta), then the coefficient at the best learning rate. The
choice is the highest mean gold win rate after the last update, diverged runs counting as 0. All
trials are kept in ``results/<preset>/tuning``; the choice goes to ``bench/tuned.toml``, which the
presets read. No schedule but N = 1 is ever run here.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from bench import algorithms, paths
from bench.config import RunConfig
from bench.errors import UserError
from bench.experiments.presets import TUNED, Preset, preset, tuned
from bench.experiments.sweep import SweepError, locked, sweep
from bench.records import store
from bench.stages import find
from bench.staleness import ON_POLICY

SEEDS = (1000, 1001)
LEARNING_RATES = (2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4)
KL_COEF = ("kl_coef", (0.02, 0.05, 0.1))
COEFFICIENTS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "ppo": KL_COEF,
    "rloo": KL_COEF,
    "rloo_vanilla": KL_COEF,
    "copg": ("beta", (0.02, 0.05, 0.1)),
    "online_dpo": ("beta", (0.03, 0.1, 0.3)),
    "online_ipo": ("beta", (0.03, 0.1, 0.3)),
}  # an algorithm that is not here has only its learning rate searched


@dataclass(frozen=True)
class Trial:
    """One point of the search; ``coefficient`` is None where the algorithm has none."""

    algorithm: str
    learning_rate: float
    coefficient: float | None

    def overrides(self, chosen: Preset) -> dict[str, Any]:
        """Return the run's fields: what the preset says, with this point's values."""
        fixed = chosen.per_algorithm.get(self.algorithm, {}).get("algorithm_params", {})
        params = dict(fixed)
        if self.coefficient is not None:
            params[COEFFICIENTS[self.algorithm][0]] = self.coefficient
        return {"learning_rate": self.learning_rate, "algorithm_params": params}


def default_coefficient(algorithm: str) -> float | None:
    """Return the middle of the algorithm's coefficient grid: the authors' value for TL;DR."""
    if algorithm not in COEFFICIENTS:
        return None
    grid = COEFFICIENTS[algorithm][1]
    return grid[len(grid) // 2]


def best(scores: Mapping[Trial, Sequence[float]]) -> Trial:
    """Return the trial with the highest mean; of equal ones the smallest learning rate."""
    return max(scores, key=lambda t: (sum(scores[t]) / len(scores[t]), -t.learning_rate))


class Search:
    """Runs trials of one preset and remembers their scores."""

    def __init__(self, chosen: Preset, results_dir: Path, workers: int, console: Console) -> None:
        """Find the checkpoints that runs start from.

        Raises:
            UserError: the preset's checkpoints are not there.
        """
        stage = chosen.stage()
        caches = [
            results_dir.parent / paths.CHECKPOINTS,
            paths.record_dir(chosen.name) / paths.CHECKPOINTS,
        ]
        models = find(stage, caches)
        if models is None:
            raise UserError(
                f"no checkpoints of preset {chosen.name} in {' or '.join(map(str, caches))}; "
                f"run a figure script with --preset {chosen.name} --fresh first"
            )
        self._models = {stage.hash(): models}
        self._preset = chosen
        self._dir = results_dir
        self._workers = workers
        self._console = console

    def scores(self, trials: Sequence[Trial]) -> dict[Trial, list[float]]:
        """Return the final win rate on the tuning split, one per seed, of each trial."""
        configs = {(trial, seed): self._config(trial, seed) for trial in trials for seed in SEEDS}
        sweep(
            list(configs.values()),
            self._models,
            results_dir=self._dir,
            preset=self._preset.name,
            workers=self._workers,
            console=self._console,
        )
        runs = store.read(self._dir, "runs").set_index("run_id")
        evals = store.read(self._dir, "evals")
        final = evals.sort_values("step").groupby("run_id").last()["win_rate"]
        digest = next(iter(self._models.values())).digest
        result: dict[Trial, list[float]] = {trial: [] for trial in trials}
        for (trial, _), config in configs.items():
            run_id = config.run_id(digest)
            completed = runs.loc[run_id, "status"] == "completed"
            result[trial].append(float(final[run_id]) if completed else 0.0)
        return result

    def _config(self, trial: Trial, seed: int) -> RunConfig:
        evaluation = self._preset.run["evaluation"]
        return self._preset.run_config(
            trial.algorithm,
            ON_POLICY,
            seed=seed,
            **trial.overrides(self._preset),
            evaluation=type(evaluation)(
                every=self._preset.run["updates"],
                prompts=evaluation.prompts,
                split="tuning",
                temperature=evaluation.temperature,
                samples=0,
            ),
        )

    def run(self, names: Sequence[str]) -> pd.DataFrame:
        """Search the named algorithms in two passes; return a row per trial, the choice marked."""
        first = [
            Trial(name, rate, default_coefficient(name))
            for name in names
            for rate in LEARNING_RATES
        ]
        scores = self.scores(first)
        leaders = [best({t: s for t, s in scores.items() if t.algorithm == n}) for n in names]
        scores |= self.scores(
            [
                Trial(leader.algorithm, leader.learning_rate, coefficient)
                for leader in leaders
                for coefficient in COEFFICIENTS.get(leader.algorithm, ("", (None,)))[1]
            ]
        )
        chosen = {best({t: s for t, s in scores.items() if t.algorithm == n}) for n in names}
        rows = [
            {
                "algorithm": t.algorithm,
                "learning_rate": t.learning_rate,
                "coefficient": t.coefficient,
                "win_rate": sum(s) / len(s),
                "win_rate_min": min(s),
                "win_rate_max": max(s),
                "n_seeds": len(s),
                "chosen": t in chosen,
            }
            for t, s in scores.items()
        ]
        return pd.DataFrame(rows).sort_values(["algorithm", "learning_rate", "coefficient"])


def write_choice(chosen: Preset, table: pd.DataFrame, path: Path = TUNED) -> None:
    """Merge the chosen hyper-parameters of a preset into ``tuned.toml``."""
    entries = {name: dict(tuned(name)) for name in ("smoke", "tiny", "small", "paper")}
    for row in table[table["chosen"]].to_dict("records"):
        coefficient = None if pd.isna(row["coefficient"]) else float(row["coefficient"])
        trial = Trial(str(row["algorithm"]), float(row["learning_rate"]), coefficient)
        entries[chosen.name][trial.algorithm] = trial.overrides(chosen)
    lines = [
        "# Chosen at N = 1 on tuning seeds and the tuning split by `python -m bench.tuning`.",
        "# The trials behind it: results/reference/<preset>/tuning.parquet.",
    ]
    for name, found in entries.items():
        for algorithm, fields in sorted(found.items()):
            lines += ["", f"[{name}.{algorithm}]", f"learning_rate = {fields['learning_rate']}"]
            inner = ", ".join(f"{k} = {v}" for k, v in fields["algorithm_params"].items())
            lines.append(f"algorithm_params = {{ {inner} }}" if inner else "algorithm_params = {}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Search, print the table, write the choice; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.tuning", description=__doc__)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument(
        "--algorithms", nargs="+", default=["ppo", "rloo", "online_dpo", "best_of_2"]
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    console = Console(stderr=True)
    try:
        chosen = preset(args.preset)
        for name in args.algorithms:
            algorithms.build(name)
        results_dir = paths.results_dir(chosen.name) / "tuning"
        with locked(results_dir):
            table = Search(chosen, results_dir, args.workers, console).run(args.algorithms)
    except (UserError, SweepError) as error:
        console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2 if isinstance(error, UserError) else 1
    write_choice(chosen, table)
    table.to_parquet(results_dir / "trials.parquet", index=False)
    view = Table(title=f"hyper-parameter search at N = 1, preset {chosen.name}")
    for column in table.columns:
        view.add_column(column)
    for row in table.itertuples(index=False):
        view.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
    Console().print(view)
    return 0


if __name__ == "__main__":
    sys.exit(main())
