"""Runs of several arms that never happened: one step off-policy, every number chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from plots.analysis import arms
from plots.analysis.frames import Record

SFT = 0.5
EVALUATIONS = 8


@dataclass(frozen=True)
class Made:
    """What the runs of an arm are like. Win rate and KL rise together, straight in each other."""

    gain: float  # of win rate over SFT, at the end; 0.01 more in each seed than in the one before
    kl: float  # nats, at the end
    updates: int = 64
    generate_s: float = 0.04
    score_s: float = 0.02
    learn_s: float = 0.04


def record(
    made: Mapping[str, Made],
    models: Mapping[str, float] | None = None,
    seeds: int = 5,
    noise: float = 0.0,
) -> Record:
    """Return the runs.

    Args:
        made: by arm.
        models: by size, what its gains are times those of ``made``; None: one size.
        seeds: how many.
        noise: standard deviation of an evaluated win rate.
    """
    rng = np.random.default_rng(0)
    runs, evals, steps = [], [], []
    for model, times in (models or {"0.1m": 1.0}).items():
        for arm, one in made.items():
            for seed in range(seeds):
                run_id = f"{model}-{arm}-s{seed}"
                runs.append(
                    {
                        "run_id": run_id, "arm": arm, "preset": "tiny", "task": "tldr_tiny",
                        "model": model, "algorithm": "online_dpo", "schedule": "lag(1)",
                        "schedule_kind": "lag", "n": 1, "lr_schedule": "per_update", "seed": seed,
                        "updates": one.updates, "status": "completed", "wall_s": 20.0,
                        "tuned": True, "git_revision": "0123456789abcdef", "git_dirty": False,
                        "host_cpu": "Example CPU", "cores": 2, "device": "cpu",
                    }
                )  # fmt: skip
                for i in range(EVALUATIONS + 1):
                    way = 1 - (1 - i / EVALUATIONS) ** 2
                    step = i * one.updates // EVALUATIONS
                    gain = times * (one.gain + 0.01 * seed)
                    evals.append(
                        {
                            "run_id": run_id, "step": step, "episodes": 32 * step,
                            "wall_s": step / 6, "kl_nats": one.kl * way,
                            "win_rate": SFT + gain * way + (i > 0) * rng.normal(0, noise),
                            "gold_mean": way, "reward_mean": way, "perplexity": 1.5,
                            "perplexity_diluted": 1.1, "completion_tokens_mean": 20.0,
                            "finished_fraction": 1.0,
                        }
                    )  # fmt: skip
                steps += [
                    {
                        "run_id": run_id, "step": step, "staleness": min(step, 1),
                        "generate_s": one.generate_s + (step == 0), "score_s": one.score_s,
                        "learn_s": one.learn_s,
                    }
                    for step in range(one.updates)
                ]  # fmt: skip
    frame, table = pd.DataFrame(runs), pd.DataFrame(steps)
    return Record.of(frame.merge(arms.times(table)), pd.DataFrame(evals), table)
