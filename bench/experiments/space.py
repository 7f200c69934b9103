"""How much a sweep will write, and whether there is room for it. Imports no torch.

An estimate from numbers of rows and models' sizes, within a factor of two of what is written:

| what | bytes |
|---|---|
| a run's tables | ``FILES_BYTES`` for the files themselves, and ``ROW_BYTES`` for each row |
| an unfinished run | 4 per parameter for weights and each of two moments; twice, old and new |
| an SFT or a reward model | 4 per parameter |
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.config import RunConfig
from bench.errors import UserError
from bench.stage_config import RewardConfig, SftConfig

FILES_BYTES = 40_000
ROW_BYTES = {"steps": 150, "spans": 20, "evals": 150, "samples": 300, "outcomes": 5}
SPANS_PER_UPDATE = 5
UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}


def require_space(
    results_dir: Path,
    runs: Sequence[RunConfig],
    *,
    workers: int | None,
    models: Sequence[SftConfig | RewardConfig] = (),
) -> None:
    """Make sure that there is room for runs, and for models to train, in a results directory.

    Raises:
        UserError: there is too little.
    """
    needed = needed_bytes(runs, workers=workers, models=models)
    there = next(path for path in (results_dir, *results_dir.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"results directory {results_dir}: {len(runs)} runs need about {size(needed)} of disk "
            f"space, {size(free)} are free; free some or choose another with --out"
        )


def needed_bytes(
    runs: Sequence[RunConfig],
    *,
    workers: int | None,
    models: Sequence[SftConfig | RewardConfig] = (),
) -> int:
    """Return about how many bytes runs and models to train will take at the most.

    Without a number of workers there are no more than cores.
    """
    unfinished = sorted((6 * _model_bytes(run.stage.model) for run in runs), reverse=True)
    trained = sum(_model_bytes(model.model) for model in models)
    return sum(map(run_bytes, runs)) + sum(unfinished[: workers or os.cpu_count()]) + trained


def run_bytes(run: RunConfig) -> int:
    """Return about how many bytes a run's tables take."""
    rows = {
        "steps": run.updates,
        "spans": SPANS_PER_UPDATE * run.updates,
        "evals": run.updates // run.evaluation.every + 2,
        "samples": run.evaluation.samples,
        "outcomes": run.evaluation.prompts,
    }
    return FILES_BYTES + sum(ROW_BYTES[table] * count for table, count in rows.items())


def _model_bytes(model: str) -> int:
    """Return the size of float32 weights, of parameters as a model's name says: "410m"."""
    found = re.fullmatch(r"([0-9.]+)([kmb])", model)
    return int(4 * float(found[1]) * UNITS[found[2]]) if found else 0


def size(number: float) -> str:
    """Return a number of bytes as text: "12 MB", "3.4 GB"."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
