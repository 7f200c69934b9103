"""Tables of timed runs that never happened, with times in round milliseconds."""

from __future__ import annotations

import pandas as pd

UPDATES, EVERY = 8, 4
TIMES_MS = {  # wait, score, learn, publish, generate
    "split": (62, 20, 50, 8, 60),
    "whole": (55, 15, 40, 0, 55),
    "overlapped": (3, 22, 55, 10, 66),
}


def tables(
    seeds: int = 3, win_rates: dict[str, float] | None = None, models: tuple[str, ...] = ("0.1m",)
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return runs, evals, steps and spans. The first update and those after an evaluation take 1 s.

    Seed s takes s ms longer to wait and to generate; larger models twice as long as the one before.
    """
    runs, evals, steps, spans = [], [], [], []
    for size, model in enumerate(models):
        for arm, times in TIMES_MS.items():
            for seed in range(seeds):
                run_id = f"{model}-{arm}-s{seed}"
                schedule = "lag(1)" if arm == "overlapped" else "on_policy"
                runs.append(
                    {
                        "run_id": run_id, "preset": "tiny", "task": "tldr_tiny", "model": model,
                        "algorithm": "online_dpo", "schedule": schedule,
                        "schedule_kind": schedule.partition("(")[0], "n": 1, "timed": arm,
                        "lr_schedule": "per_update", "seed": seed, "status": "completed",
                        "wall_s": 1.0, "git_revision": "0123456789abcdef", "git_dirty": False,
                        "host_cpu": "Example CPU", "cores": 2, "device": "cpu",
                    }
                )  # fmt: skip
                final = (win_rates or {}).get(arm, 0.9) + 0.001 * seed
                for step in range(0, UPDATES + 1, EVERY):
                    win_rate = 0.6 + (final - 0.6) * step / UPDATES
                    evals.append(
                        {"run_id": run_id, "step": step, "win_rate": win_rate, "wall_s": step / 10,
                         "kl_nats": 0.1 * step, "gold_mean": 0.0, "reward_mean": 0.0,
                         "perplexity": 1.0, "perplexity_diluted": 1.0,
                         "completion_tokens_mean": 10.0, "finished_fraction": 1.0}
                    )  # fmt: skip
                clock = 100.0
                for step in range(UPDATES):
                    wait, score, learn, publish, generate = (ms / 1e3 * 2**size for ms in times)
                    wait, generate = wait + seed / 1e3, generate + seed / 1e3
                    if step % EVERY == 0:
                        wait = 1.0
                    stale = min(step, 1) if arm == "overlapped" else 0
                    steps.append(
                        {"run_id": run_id, "step": step, "staleness": stale, "wait_s": wait,
                         "score_s": score, "learn_s": learn, "publish_s": publish,
                         "generate_s": generate}
                    )  # fmt: skip
                    engine = ("engine", "generate", clock, clock + generate, step)
                    spans.append((run_id, *engine))
                    for name, lasts in (("wait", wait), ("score", score), ("learn", learn)):
                        spans.append((run_id, "learner", name, clock, clock + lasts, step))
                        clock += lasts
                    spans.append((run_id, "learner", "publish", clock, clock + publish, step + 1))
                    clock += publish
                    if (step + 1) % EVERY == 0:
                        spans.append((run_id, "learner", "evaluate", clock, clock + 5, step + 1))
                        clock += 5
                spans.append((run_id, "learner", "evaluate", 90.0, 95.0, 0))
    columns = ["run_id", "process", "name", "start_s", "end_s", "step"]
    return (
        pd.DataFrame(runs),
        pd.DataFrame(evals),
        pd.DataFrame(steps),
        pd.DataFrame(spans, columns=columns),
    )
