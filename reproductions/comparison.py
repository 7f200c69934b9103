"""The user's runs against the record's, cell by cell, with the spread of seeds as the measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from scipy.stats import t as student

from bench.config import RunConfig
from bench.experiments.arms import timed_arm
from plots.analysis.frames import Record
from plots.analysis.stats import t_interval

TIMES = ["wall_s", "evaluate_s"]
SAME = ["model", "reward_model", "timed", "schedule", "lr_schedule"]  # of two runs of one setting
CONFIDENCE = 0.95


def compare(
    mine: Record,
    recorded: Record,
    configs: Sequence[RunConfig],
    arms: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Compare final win rates per cell of ``configs`` on the seeds that both records have.

    Args:
        mine: the user's runs.
        recorded: those of the record.
        configs: a grid's.
        arms: by ``config_hash``, for the names of cells.

    Returns:
        One row per cell: seeds in common, how many of those runs are ``identical`` in every
        evaluated number, and the columns of ``differences``.
    """
    rows = []
    cells = {config.config_hash(): config for config in configs}
    theirs = _evaluations(recorded.curves)
    ours = _evaluations(mine.curves[mine.curves["seed"].isin(recorded.curves["seed"])])
    ends = [side.final.drop_duplicates("run_id") for side in (mine, recorded)]
    for key, config in cells.items():
        a, b = (
            end.loc[end["config_hash"] == key, ["seed", "win_rate"]].set_index("seed")["win_rate"]
            for end in ends
        )
        seeds = sorted(set(a.index) & set(b.index))
        identical = sum(ours[key, seed].equals(theirs[key, seed]) for seed in seeds)
        found = differences(a, b)
        if seeds and identical == len(seeds):
            found["verdict"] = "identical"
        name = cell_name(config, arms)
        rows.append({"cell": name, "seeds": len(seeds), "identical": identical, **found})
    return pd.DataFrame(rows)


def compare_beside(others: Record, record: Record) -> pd.DataFrame:
    """Compare final win rates of another directory's runs with the record's of the same setting.

    That is the record's one cell of the same algorithm, sizes and schedules. It may have other
    hyper-parameters: that is then what the difference shows.

    Args:
        others: the runs of ``loading.load_beside``: "grpo (mine)" is an algorithm's name.
        record: a figure's.

    Returns:
        One row per cell of ``others``: seeds, ``win_rate``, the one ``recorded``, and the columns
        of ``differences``. Where the record has no such cell, ``verdict`` says so.
    """
    rows = []
    keys = ["algorithm", *(name for name in SAME if name in others.final)]
    recorded = record.final
    for _, runs in others.final.groupby(keys, dropna=False, sort=False):
        first = runs.iloc[0]
        same = recorded["algorithm"] == first["algorithm"].partition(" (")[0]
        for name in keys[1:]:
            missing = recorded[name].isna() if pd.isna(first[name]) else False
            same &= (recorded[name] == first[name]) | missing
        cell = recorded[same]
        one = cell["config_hash"].nunique() == 1
        a = runs.set_index("seed")["win_rate"]
        b = cell.set_index("seed")["win_rate"] if one else a.iloc[:0]
        found = differences(a, b)
        if not one:
            found["verdict"] = "not in the record"
        rows.append(
            {
                "cell": _name(first, keys),
                "seeds": len(runs),
                "win_rate": a.mean(),
                "recorded": b.mean() if one else math.nan,
                **found,
            }
        )
    return pd.DataFrame(rows)


def _name(run: pd.Series[Any], keys: Sequence[str]) -> str:
    """Return what a cell is called; a reward model of the policy's size is not named."""
    own = run.get("reward_model") == run["model"]
    shown = [name for name in keys if not (own and name == "reward_model")]
    return " ".join(str(run[name]) for name in shown if not pd.isna(run[name]))


def differences(mine: pd.Series[float], recorded: pd.Series[float]) -> dict[str, Any]:
    """Return how two cells differ, win rates by seed.

    Returns:
        ``difference``: mean over common seeds, mine minus recorded, and its 95% t-interval ``lo``,
        ``hi``. ``spread``: standard deviation of the recorded win rates over all their seeds.
        ``within``: up to where the spread alone explains a difference. Runs that part by rounding
        share nothing but the setting, so it is t spread sqrt(2 / seeds), t the 97.5% point of
        Student's distribution for the recorded seeds. ``verdict``: "agrees", "differs", or that
        there is nothing to say it by.
    """
    seeds = sorted(set(mine.index) & set(recorded.index))
    interval = t_interval((mine[seeds] - recorded[seeds]).to_numpy())
    spread = float(recorded.std()) if len(recorded) > 1 else math.nan
    within = math.nan
    if seeds and not math.isnan(spread):
        t = float(student.ppf((1 + CONFIDENCE) / 2, len(recorded) - 1))
        within = t * spread * math.sqrt(2 / len(seeds))
    if not seeds:
        verdict = "no seed in common"
    elif math.isnan(within):
        verdict = "one recorded seed"
    else:
        verdict = "agrees" if abs(interval.estimate) <= within else "differs"
    return {
        "difference": interval.estimate,
        "lo": interval.lo,
        "hi": interval.hi,
        "spread": spread,
        "within": within,
        "verdict": verdict,
    }


def summary(compared: pd.DataFrame) -> str:
    """Return in a sentence how many cells agree."""
    counts = compared["verdict"].value_counts(sort=False)
    said = ", ".join(f"{verdict}: {count}" for verdict, count in counts.items())
    return (
        f"{len(compared)} cells, {said}. `difference`: final win rate, mine minus recorded, "
        "over common seeds; `spread`: standard deviation over recorded seeds; `within`: up to "
        "where that spread explains a difference."
    )


def cell_name(config: RunConfig, arms: Mapping[str, str] | None = None) -> str:
    """Return what a cell of a grid is called: its arm, where there are arms by ``config_hash``.

    A series stands in place of its algorithm.
    """
    name = (arms or {}).get(config.config_hash(), "")
    if name.startswith(config.algorithm.name):
        return f"{config.stage.sizes} {name} {config.schedule}"
    kind = name or timed_arm(config) or config.lr_schedule
    return f"{config.stage.sizes} {config.algorithm.name} {config.schedule} {kind}"


def _evaluations(curves: pd.DataFrame) -> dict[tuple[Any, ...], pd.DataFrame]:
    """Return what was evaluated of each run, by ``config_hash`` and seed, but for the times."""
    curves = curves.drop_duplicates(["run_id", "step"])  # a run may be of several series
    first = list(curves.columns).index("step")
    keys = [curves["config_hash"], curves["seed"]]
    numbers = curves.iloc[:, first:].drop(columns=TIMES, errors="ignore")
    return {key: run.reset_index(drop=True) for key, run in numbers.groupby(keys)}
