"""Tables as the sweep writes them, of runs that never happened: effects known, noise seeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

GRID = (1, 2, 4, 8, 16, 32, 64)
UPDATES = 128
SFT = 0.58

# name -> (on-policy win rate, share of the gain lost per doubling of N, final KL at N = 1)
PAPER_LIKE = {
    "ppo": (0.91, 0.040, 22.0),
    "rloo": (0.90, 0.030, 20.0),
    "online_dpo": (0.905, 0.008, 18.0),
    "best_of_2": (0.80, 0.035, 9.0),
}


def tables(
    algorithms: Mapping[str, tuple[float, float, float]] = PAPER_LIKE,
    grid: Sequence[int] = GRID,
    seeds: int = 5,
    noise: float = 0.01,
    key: int = 0,
    diverged: Sequence[tuple[str, int, int]] = (),
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return runs, evals and steps. Every run lies on its algorithm's frontier up to noise.

    Win rate is a function of KL alone; N shortens the way. ``diverged`` lists (algorithm, N, seed).
    """
    rng = np.random.default_rng(key)
    runs, evals, steps = [], [], []
    for name, (top, lost, kl_max) in algorithms.items():
        for n in grid:
            for seed in range(seeds):
                run_id = f"{name}-{n}-s{seed}"
                failed = (name, n, seed) in diverged
                runs.append(
                    {
                        "run_id": run_id, "preset": "tiny", "task": "tldr_tiny", "model": "0.1m",
                        "algorithm": name, "schedule": f"reuse({n})", "schedule_kind": "reuse",
                        "n": n, "lr_schedule": "per_update", "seed": seed,
                        "status": "diverged" if failed else "completed", "wall_s": 20.0,
                        "git_revision": "0123456789abcdef", "git_dirty": False,
                        "host_cpu": "Example CPU", "cores": 2, "device": "cpu",
                    }
                )  # fmt: skip
                kept = 1 - lost * np.log2(n)
                level = rng.normal(0, noise)
                for step in range(0, 65 if failed else UPDATES + 1, 16):
                    way = kept * (1 - (1 - step / UPDATES) ** 2)
                    moved = float(step > 0)
                    evals.append(
                        {
                            "run_id": run_id, "step": step, "episodes": step * 64,
                            "completions": step * 128, "wall_s": step / 6,
                            "win_rate": SFT + (top - SFT) * way + moved * level, "win_rate_n": 512,
                            "gold_mean": way, "reference_gold_mean": 0.2, "reward_mean": 2 * way,
                            "kl_nats": kl_max * way**2 * (1 + moved * rng.normal(0, 0.03)),
                            "perplexity": 1.5 + way, "perplexity_diluted": 1.1 + way / 10,
                            "completion_tokens_mean": 20.0, "finished_fraction": 0.99,
                            "evaluate_s": 0.5,
                        }
                    )  # fmt: skip
                done = 70 if failed else UPDATES
                steps += [{"run_id": run_id, "step": i, "staleness": i % n} for i in range(done)]
    return pd.DataFrame(runs), pd.DataFrame(evals), pd.DataFrame(steps)
