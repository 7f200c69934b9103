"""Choose an algorithm's hyper-parameters: ``python -m bench.tuning --algorithms grpo``.

Searches the grid in the algorithm's file, at N = 1, on tuning seeds and prompts that no
figure reports on. The choice goes to tuned.toml in the results directory, where every later run of
the preset finds it; until then an algorithm runs at the preset's default learning rate and is
marked as untuned. All trials are kept in tuning/ and, as a table, in tuning.parquet beside it. A
search that is stopped goes on with the same command.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
from rich.console import Console

from bench import hub, paths
from bench.algorithms import ALGORITHMS
from bench.command import Parser, run_command
from bench.config import RunConfig
from bench.experiments import search
from bench.experiments.flags import add_flags, check_workers, names, refuse_records
from bench.experiments.presets import Preset, preset
from bench.experiments.progress import say
from bench.experiments.starting_models import check, starting_models
from bench.experiments.sweep import locked, sweep
from bench.experiments.tables import print_frame
from bench.experiments.tuned import RECORDED, Choices, Tuned, read_tuned, write_tuned
from bench.records import store

TRIALS = "tuning"  # of a results directory: the runs; with .parquet, the table


def tune(
    chosen: Preset,
    algorithms: Sequence[str],
    *,
    results_dir: Path,
    workers: int | None,
    console: Console,
    into: Path | None = None,
) -> pd.DataFrame:
    """Search, and write the choices to the file that later runs read.

    Args:
        chosen: the preset.
        algorithms: the names of those to search.
        results_dir: the user's results.
        workers: processes at a time; see ``sweep``.
        console: where progress is shown.
        into: the file of choices; None: that of ``results_dir``.

    Returns:
        A row per trial, see ``search.table``.

    Raises:
        UserError: something asked for is not possible; finished trials are kept.
        RunsFailedError: trials failed; the others are kept.
    """

    def run(configs: Sequence[RunConfig]) -> list[float]:
        if not configs:
            return []
        models = starting_models(
            configs,
            results_dir=results_dir,
            record_dir=paths.record_dir(chosen.name),
            workers=workers,
            console=console,
        )
        ids = [config.run_id(models[config.models_key].digest) for config in configs]
        sweep(
            configs,
            models,
            results_dir=results_dir / TRIALS,
            preset=chosen.name,
            workers=workers,
            console=console,
        )
        runs = store.read(results_dir / TRIALS, "runs", ids).set_index("run_id")
        evals = store.read(results_dir / TRIALS, "evals", ids).sort_values("step")
        final = evals.groupby("run_id").last()["win_rate"]
        completed = runs["status"] == "completed"
        return [float(final[run_id]) if completed[run_id] else 0.0 for run_id in ids]

    scores = search.search(chosen, algorithms, run)
    choices = {name: search.choose(chosen, scores, name) for name in algorithms}
    target = into or results_dir / paths.TUNED
    kept: Choices = read_tuned(target)
    write_tuned(target, kept | {chosen.key: kept.get(chosen.key, {}) | choices})
    table = search.table(chosen, scores)
    _show(choices, table, target, Console())
    file = results_dir / f"{TRIALS}.parquet"
    if file.exists():
        earlier = pd.read_parquet(file)
        table = pd.concat([earlier[~earlier["algorithm"].isin(algorithms)], table])
    store.write_arrow(file, pa.Table.from_pandas(table, preserve_index=False))
    return table


def _show(
    choices: Mapping[str, Tuned], trials: pd.DataFrame, target: Path, console: Console
) -> None:
    print_frame(console, trials, "Win rate on the tuning split, N = 1")
    rows = [
        {
            "algorithm": name,
            "learning_rate": f"{chosen.learning_rate:g}",
            "parameters": ", ".join(f"{k} = {v}" for k, v in chosen.algorithm_params.items()),
            "remarks": chosen.remarks,
        }
        for name, chosen in choices.items()
    ]
    print_frame(console, pd.DataFrame(rows), "Chosen")
    say(console, f"Choices: {target}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = Parser(
        prog="python -m bench.tuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--algorithms",
        type=names,
        required=True,
        help=f"with commas between them, of {', '.join(ALGORITHMS)}",
    )
    add_flags(parser, "--preset", "--task", "--workers", "--out", "--hub-dir")
    parser.add_argument(
        "--record",
        action="store_true",
        help="for maintainers: write the choices into the committed bench/experiments/tuned.toml",
    )

    def command() -> None:
        given = parser.parse_args(arguments)
        check_workers(given.workers)
        chosen = preset(given.preset, given.out, given.task)
        results_dir = given.out or paths.results_dir(chosen.name)
        refuse_records(results_dir)
        if given.hub_dir is not None:
            hub.use_hub_dir(given.hub_dir)
        first = search.config_of(chosen, search.first_pass(given.algorithms[0])[0], 0)
        check([first], given.workers)
        with locked(results_dir):
            tune(
                chosen,
                given.algorithms,
                results_dir=results_dir,
                workers=given.workers,
                console=Console(stderr=True),
                into=RECORDED if given.record else None,
            )

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
