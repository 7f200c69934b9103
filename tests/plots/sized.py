"""Tables of runs that never happened, of several sizes of policy and reward model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from plots.analysis.frames import Record
from tests.plots import simulated

# (policy, reward model) -> share of the gain that a doubling of N costs. The first policy has all
# reward models, the second reward model all policies.
LOST = {
    ("0.1m", "0.2m"): 0.06,
    ("0.2m", "0.2m"): 0.05,
    ("0.8m", "0.2m"): 0.01,
    ("0.1m", "0.1m"): 0.06,
    ("0.1m", "0.8m"): 0.05,
}


def tables(
    lost: Mapping[tuple[str, str], float] = LOST,
    algorithms: Sequence[str] = ("online_dpo",),
    top: float = 0.88,
    **kwargs,
) -> list[pd.DataFrame]:
    """Return runs, evals and steps of each pair of sizes, with noise of its own."""
    parts = []
    for key, ((model, reward_model), share) in enumerate(lost.items()):
        each = dict.fromkeys(algorithms, (top, share, 18.0))
        tag = f"{model}-{reward_model}-"
        runs, *others = (
            frame.assign(run_id=tag + frame["run_id"])
            for frame in simulated.tables(each, key=key, **kwargs)
        )
        runs = runs.assign(model=model, reward_model=reward_model, learning_rate=1e-4, updates=128)
        parts.append((runs, *others))
    return [pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True)]


def record(*args, **kwargs) -> Record:
    """Return the record of ``tables``."""
    return Record.of(*tables(*args, **kwargs))


def pushed(
    peaks: Mapping[tuple[str, float, int], tuple[float, float]],
    algorithms: Sequence[str] = ("online_dpo",),
    seeds: int = 5,
    noise: float = 0.0,
) -> Record:
    """Return runs at N = 1 whose gold win rate rises from .58 to a peak and falls to an end.

    Args:
        peaks: win rates at the peak and at the end, by reward model, learning rate and updates. The
            peak is at half of the updates. The proxy reward rises by 1 before and by 1 after it.
        algorithms: all with the same.
        seeds: how many.
        noise: of each evaluation after the first.
    """
    rng = np.random.default_rng(0)
    runs, evals, steps = [], [], []
    for name in algorithms:
        for (reward_model, rate, updates), (peak, end) in peaks.items():
            for seed in range(seeds):
                run_id = f"{name}-{reward_model}-{rate}-{updates}-s{seed}"
                runs.append(
                    {
                        "run_id": run_id, "preset": "worth", "task": "tldr_worth", "model": "0.1m",
                        "reward_model": reward_model, "learning_rate": rate, "updates": updates,
                        "algorithm": name, "schedule": "reuse(1)", "schedule_kind": "reuse", "n": 1,
                        "lr_schedule": "per_update", "seed": seed, "status": "completed",
                        "wall_s": 20.0, "git_revision": "0123456789abcdef", "git_dirty": False,
                        "host_cpu": "Example CPU", "cores": 2, "device": "cpu",
                    }
                )  # fmt: skip
                for i in range(17):
                    rise, fall = min(1.0, i / 8), max(0.0, (i - 8) / 8)
                    evals.append(
                        {
                            "run_id": run_id, "step": i * updates // 16, "wall_s": 1.0 * i,
                            "episodes": i * updates, "completions": 2 * i * updates,
                            "win_rate": 0.58 + (peak - 0.58) * rise - (peak - end) * fall
                            + (i > 0) * rng.normal(0, noise),
                            "win_rate_n": 512, "gold_mean": 0.0, "reference_gold_mean": 0.2,
                            "reward_mean": i / 8, "kl_nats": rate * 1e4 * i, "perplexity": 2.0,
                            "perplexity_diluted": 1.2, "completion_tokens_mean": 20.0,
                            "finished_fraction": 1.0, "evaluate_s": 0.5,
                        }
                    )  # fmt: skip
                steps += [{"run_id": run_id, "step": i, "staleness": 0} for i in range(updates)]
    return Record.of(pd.DataFrame(runs), pd.DataFrame(evals), pd.DataFrame(steps))
