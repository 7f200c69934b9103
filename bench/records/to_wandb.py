"""Send finished runs to Weights & Biases (extra ``[wandb]``). The Parquet tables remain the record.

python -m bench.records.to_wandb results/tiny --project async-rlhf

Each run keeps its ``run_id``, so sending it twice does not duplicate it. The x axis is the number
of updates done. ``WANDB_MODE=offline`` writes to the folder ``wandb`` and sends nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from bench.command import Parser, run_command
from bench.records import store, wandb_log


def send(results_dir: Path, project: str, console: Console) -> int:
    """Send all complete runs of a results directory; return how many.

    Raises:
        UserError: wandb is not installed or refuses, ``WANDB_MODE`` is none of its modes, or there
            are no results or a file cannot be read.
    """
    wandb_log.require()
    runs, steps, evals = (store.read(results_dir, name) for name in ("runs", "steps", "evals"))
    steps_of, evals_of = (
        {run_id: rows.to_dict("records") for run_id, rows in table.groupby("run_id")}
        for table in (steps, evals)
    )
    for run in track(runs.to_dict("records"), "runs sent", console=console):
        run_id, cell = str(run["run_id"]), json.loads(str(run.pop("config_json")))
        with wandb_log.opened(run_id, run, cell, project=project) as sent:
            wandb_log.log(sent, steps_of.get(run_id, []), evals_of.get(run_id, []))
    return len(runs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = Parser(description="send finished runs to Weights & Biases")
    parser.add_argument("results_dir", type=Path)
    parser.add_argument("--project", default=wandb_log.PROJECT)

    def command() -> None:
        options = parser.parse_args(arguments)
        count = send(options.results_dir, options.project, Console())
        print(f"{count} runs of {options.results_dir} are in project {options.project}")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
