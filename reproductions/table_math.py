"""Table: asynchronous RLHF on maths, where a rule says what is right.

Pass@1 of the SFT model, of Online DPO, synchronous and asynchronous (one step off-policy), and of
RLOO and PPO; with four completions of each prompt, of which Online DPO trains on the best and the
worst. Of the algorithms that are named, the first has both arms. They are compared by McNemar's
exact test over prompts, for each pair of runs of a seed, and over seeds by a test of equality
(TOST). Training time is measured on split cores, and on all of them as the other synchronous
baseline; preset smoke is not timed. Task `arithmetic`; at preset paper `gsm8k`.

The paper (Rho-1B, GSM8K, Online DPO, four L40S, one run): asynchronous matches synchronous, with
about 70% faster training.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

from dataclasses import replace
from typing import Any

import pandas as pd

from bench import algorithms as registry
from bench.config import RunConfig
from bench.experiments import arms
from bench.experiments.preset import Preset
from bench.records import store
from bench.staleness import ON_POLICY, lag
from plots.analysis import overlap, stats
from plots.analysis.frames import Record
from plots.analysis.outcomes import mcnemar
from reproductions.options import Options
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce

ALGORITHMS = ("online_dpo", "rloo", "ppo")
COMPLETIONS_PER_PROMPT = 4
SYNC, ASYNC, ALL_CORES = "sync", "async", "sync, all cores"
ARMS = {"split": SYNC, "overlapped": ASYNC, "whole": ALL_CORES}  # by ``timed``
EQUAL = 0.02  # of pass@1, as claim C16a has it


def grid(options: Options) -> list[RunConfig]:
    """Return the first algorithm in all arms and the others; timed where times mean something."""
    preset = options.preset
    first, *others = (_synchronous(preset, name) for name in options.algorithms or ALGORITHMS)
    if not preset.verdicts:
        return [first, replace(first, schedule=lag(1)), *others]
    return [*(arms.arm(first, one) for one in arms.ARMS), *(arms.arm(o, "split") for o in others)]


def _synchronous(preset: Preset, name: str) -> RunConfig:
    """Return an on-policy run of the preset's first size with K = 4."""
    config = preset.run_config(name, ON_POLICY)
    params = {**config.algorithm.identity(), "completions_per_prompt": COMPLETIONS_PER_PROMPT}
    return replace(config, algorithm=registry.build(name, params))


def arm(config: RunConfig, preset: Preset) -> str:
    """Return whether a run is synchronous or not, and on what."""
    del preset
    timed = arms.timed_arm(config)
    return ARMS[timed] if timed else SYNC if config.schedule == ON_POLICY else ASYNC


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return a row for the SFT model and one for each algorithm and arm."""
    del options
    final = record.final
    assert record.directory is not None  # it is loaded
    outcomes = store.read(record.directory, "outcomes", final["run_id"])
    ties = _tie_fractions(record)
    rows: list[dict[str, Any]] = [{"algorithm": "sft", "pass_at_1": final["sft_win_rate"].mean()}]
    for name in final["algorithm"].unique():
        own = final[final["algorithm"] == name]
        of = {kind: own[own["arm"] == kind] for kind in ARMS.values() if kind in set(own["arm"])}
        for kind, runs in of.items():
            row = {
                "algorithm": name,
                "arm": kind,
                "pass_at_1": runs["win_rate"].mean(),
                "train_s": _train_s(record, runs),
                "equal_groups": ties[runs["run_id"]].mean(),
                "seeds": len(runs),
            }
            if kind == ASYNC and SYNC in of:
                row |= _compare(runs, of[SYNC], outcomes)
            rows.append(row)
    return pd.DataFrame(rows)


def _train_s(record: Record, runs: pd.DataFrame) -> float:
    """Return the seconds of all updates at the median one of each run, mean over seeds."""
    first = runs.iloc[0]
    if first["timed"] is None or pd.isna(first["timed"]):
        return float("nan")
    medians = overlap.medians(record, first["algorithm"], first["model"])
    if (first["timed"], "update_s") not in medians:
        return float("nan")
    return float(medians[first["timed"], "update_s"].mean() * first["updates"])


def _tie_fractions(record: Record) -> pd.Series[float]:
    """Return by run the share of prompts whose completions are all right or all wrong.

    Only losses on pairs measure it: the best and the worst are then equal, and teach nothing.
    """
    assert record.directory is not None
    ids = record.final["run_id"]
    steps = store.read(record.directory, "steps", ids, ["run_id", "metrics"])
    shares = steps["metrics"].map(lambda metrics: metrics.get("tie_fraction", float("nan")))
    return shares.groupby(steps["run_id"]).mean().reindex(ids)


def _compare(
    runs: pd.DataFrame, sync: pd.DataFrame, outcomes: pd.DataFrame
) -> dict[str, float | int]:
    """Return how asynchronous runs compare with the synchronous ones of the same seeds.

    ``async_only`` and ``sync_only`` are prompts that only one of a pair solves, summed over seeds;
    ``mcnemar_p`` is the smallest p-value of a pair times their number. Runs without outcomes have
    none of them. ``tost_p`` is that of means further apart than ``EQUAL``, over seeds.
    """
    both = runs.merge(sync, on="seed", suffixes=("", "_sync"))
    difference = both["win_rate"] - both["win_rate_sync"]
    compared = {
        "difference": difference.mean(),
        "tost_p": stats.p_equivalent(difference, EQUAL),
    }
    sound = both[(both["status"] == "completed") & (both["status_sync"] == "completed")]
    pairs = zip(sound["run_id"], sound["run_id_sync"], strict=True)
    found = [one for pair in pairs if (one := mcnemar(outcomes, *pair)) is not None]
    if not found:
        return compared
    return {
        **compared,
        "async_only": sum(one.first_only for one in found),
        "sync_only": sum(one.second_only for one in found),
        "mcnemar_p": min(1.0, len(found) * min(one.p for one in found)),
    }


REPRODUCTION = Reproduction(
    name="table_math",
    caption=__doc__,
    grid=grid,
    arm=arm,
    tabulate=tabulate,
    presets=("smoke", "worth", "paper"),
    tasks={"smoke": "arithmetic", "worth": "arithmetic", "paper": "gsm8k"},
    ranks=("algorithm", "arm"),
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
