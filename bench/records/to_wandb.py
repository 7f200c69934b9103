"""Send finished runs to Weights & Biases (extra ``[wandb]``). The Parquet tables remain the record.

python -m bench.records.to_wandb results/tiny --project async-rlhf

Each run keeps its ``run_id``, so sending it twice does not duplicate it. The x axis is the number
of updates done. ``WANDB_MODE=offline`` writes to the folder ``wandb`` and sends nothing.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import track

from bench.command import Parser, run_command
from bench.errors import UserError
from bench.records import store

MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")  # that wandb knows


def history(steps: pd.DataFrame, evals: pd.DataFrame) -> dict[int, dict[str, float]]:
    """Return one run's numbers by updates done: ``train/...`` of its steps, ``eval/...``.

    The algorithm's own metrics are among those of the steps. Missing values are left out.
    """
    found: dict[int, dict[str, float]] = {}
    for row in steps.to_dict("records"):
        numbers = {**row, **row["metrics"]}
        _add(found.setdefault(int(row["step"]) + 1, {}), "train", numbers)
    for row in evals.to_dict("records"):
        _add(found.setdefault(int(row["step"]), {}), "eval", row)
    return dict(sorted(found.items()))


def _add(target: dict[str, float], prefix: str, row: Mapping[Any, Any]) -> None:
    left_out = ("run_id", "step", "metrics")
    target.update(
        {
            f"{prefix}/{name}": float(value)
            for name, value in row.items()
            if name not in left_out and pd.notna(value)
        }
    )


def send(results_dir: Path, project: str, console: Console) -> int:
    """Send all complete runs of a results directory; return how many.

    Raises:
        UserError: wandb is not installed or refuses, ``WANDB_MODE`` is none of its modes, or there
            are no results or a file cannot be read.
    """
    if find_spec("wandb") is None:
        raise UserError("wandb is not installed: install the extra [wandb]")
    if (mode := os.environ.get("WANDB_MODE", "online")) not in MODES:
        raise UserError(f"WANDB_MODE = {mode!r}: allowed are {', '.join(MODES)}")
    import wandb

    runs, steps, evals = (store.read(results_dir, name) for name in ("runs", "steps", "evals"))
    steps_of, evals_of = dict(list(steps.groupby("run_id"))), dict(list(evals.groupby("run_id")))
    try:
        for run in track(runs.to_dict("records"), "runs sent", console=console):
            run_id = str(run["run_id"])
            settings = json.loads(str(run.pop("config_json")))
            numbers = history(
                steps_of.get(run_id, steps.iloc[:0]), evals_of.get(run_id, evals.iloc[:0])
            )
            with wandb.init(
                project=project,
                id=run_id,
                name=f"{run['algorithm']} {run['schedule']} {run['model']} seed {run['seed']}",
                group=str(run["config_hash"]),
                config={**settings, "run": run},
                resume="allow",
                settings=wandb.Settings(silent=True),
            ) as sent:
                for updates, row in numbers.items():
                    sent.log(row, step=updates)
    except wandb.errors.Error as error:
        raise UserError(f"wandb: {' '.join(str(error).split())}") from error
    return len(runs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = Parser(description="send finished runs to Weights & Biases")
    parser.add_argument("results_dir", type=Path)
    parser.add_argument("--project", default="async-rlhf-bench")

    def command() -> None:
        options = parser.parse_args(arguments)
        count = send(options.results_dir, options.project, Console())
        print(f"{count} runs of {options.results_dir} are in project {options.project}")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
