"""A made-up session of all benchmarks, in round numbers."""

from bench.throughput import table
from bench.throughput.table import Shape, Timing

PROVENANCE = {
    "started_utc": "2024-01-02T03:04:05+00:00", "git_revision": "abcdef0123", "git_dirty": False,
    "python": "3.11", "torch": "2", "transformers": "5", "trl": "1", "host_cpu": "Abacus",
    "cores": 2, "threads": 1, "device": "cpu", "constraints_hash": "0",
}  # fmt: skip
SLOWER = {"0.1m": 1, "0.4m": 2, "2m": 8}  # by model size
VLLM = {"0.1m": 0.5, "0.4m": 1, "2m": 4}  # transformers' time over vLLM's


def shape(model, rows=128, algorithm=None):
    return Shape(
        model=model, rows=rows, prompt_tokens=21, completion_tokens=20, algorithm=algorithm
    )


def around(median_s):
    """Return five rounds with quartiles 10% beside the median."""
    return tuple(median_s * factor for factor in (1.0, 0.8, 1.1, 1.3, 0.9))


def generation(model, rows):
    slow = SLOWER[model] * (1 + rows / 32)
    times = {"hf": 0.01 * slow, "transformers_generate": 0.02 * slow}
    times["vllm"] = times["transformers_generate"] / VLLM[model]
    own, *others = (
        Timing(series=name, rounds_s=around(time_s), tokens=20 * rows)
        for name, time_s in times.items()
    )
    return table.rows_of("generation", shape(model, rows), own, others)


def handoff(model):
    own = Timing(series="hf", rounds_s=around(0.002 * SLOWER[model]), limit_s=0.03)
    other = Timing(series="vllm", rounds_s=around(0.02 * SLOWER[model]), limit_s=0.15)
    return table.rows_of("handoff", shape(model), own, [other])


def learner(algorithm):
    own = Timing(series="learner", rounds_s=around(0.1), tokens=2560, completions=128, flops=10**9)
    others = [
        Timing(series="matmuls_alone", rounds_s=around(0.04), flops=10**9),
        Timing(series="square_matmul", rounds_s=around(0.02), flops=10**9),
    ]
    return table.rows_of("learner_step", shape("0.1m", algorithm=algorithm), own, others)


def overlapped(model):
    """Return g = 50 ms, t = 130 ms, s = 20 ms: ideal 150 of 200 ms; 160 ms are measured."""
    work = {"tokens": 2 * 2560, "completions": 2 * 128}
    times = {
        "split": 0.2,
        "generate": 0.05,
        "train": 0.13,
        "rest": 0.02,
        "ideal": 0.15,
        "whole": 0.18,
    }
    own, *others = (
        Timing(series=name, rounds_s=around(2 * time_s * SLOWER[model]), **work)
        for name, time_s in {"overlapped": 0.16, **times}.items()
    )
    return table.rows_of("update_overlapped", shape(model, algorithm="online_dpo"), own, others)


def beside_trl():
    own = Timing(series="inline", rounds_s=around(0.2), tokens=2560, completions=128)
    other = Timing(
        series="trl_online_dpo", rounds_s=around(0.25), tokens=2560, completions=128, target=1.5
    )
    return table.rows_of("update_beside_trl", shape("0.1m", algorithm="online_dpo"), own, [other])


def session():
    """Return the rows of all benchmarks, without provenance."""
    rows = beside_trl()
    for model in SLOWER:
        rows += handoff(model) + overlapped(model)
        for batch in (32, 128, 512):
            rows += generation(model, batch)
    for algorithm in ("ppo", "rloo", "copg", "online_dpo", "best_of_2"):
        rows += learner(algorithm)
    return rows
