"""Choose an algorithm's hyper-parameters: ``python -m bench.tuning --algorithms grpo``.

Searches the grid in the algorithm's file, at N = 1, on tuning seeds and prompts that no
figure reports on, for the largest area under the learning curve. Where the best value lies at an
end of its grid the search goes on beyond it. The choice goes to tuned.toml in the results
directory, where every later run of the preset finds it; until then an algorithm runs at the
preset's default learning rate and is marked as untuned. A choice made with --model is that size's;
the first size's is also that of all sizes without their own. All trials are kept in tuning/ and, as
a table, in tuning.parquet beside it. A search that is stopped goes on with the same command.
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
from bench.errors import UserError
from bench.experiments import choice, search
from bench.experiments.flags import add_flags, check_workers, names, refuse_records
from bench.experiments.preset import Preset
from bench.experiments.presets import preset
from bench.experiments.progress import say
from bench.experiments.search import Score
from bench.experiments.starting_models import check, starting_models
from bench.experiments.sweep import locked, sweep
from bench.experiments.tables import print_frame
from bench.experiments.tuned import RECORDED, Choices, Tuned, read_tuned, write_tuned
from bench.records import store

TRIALS = "tuning"  # of a results directory: the runs; with .parquet, the table
SEEDS = 3  # without --seeds
MOST_SEEDS = 1000


def tune(
    chosen: Preset,
    algorithms: Sequence[str],
    *,
    results_dir: Path,
    workers: int | None,
    console: Console,
    model: str | None = None,
    seeds: int = SEEDS,
    into: Path | None = None,
) -> pd.DataFrame:
    """Search, and write the choices to the file that later runs read.

    Args:
        chosen: the preset.
        algorithms: the names of those to search.
        results_dir: the user's results.
        workers: processes at a time; see ``sweep``.
        console: where progress is shown.
        model: the size that is tuned; None: the preset's first.
        seeds: how many of each trial, two or more.
        into: the file of choices; None: that of ``results_dir``.

    Returns:
        A row per trial, see ``choice.table``.

    Raises:
        UserError: something asked for is not possible; finished trials are kept.
        RunsFailedError: trials failed; the others are kept.
    """

    def run(configs: Sequence[RunConfig]) -> list[Score]:
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
        return _scores(results_dir / TRIALS, ids)

    found = search.search(chosen, algorithms, run, seeds=search.tuning_seeds(seeds), model=model)
    choices = {name: choice.choose(chosen, found, name) for name in algorithms}
    target = into or results_dir / paths.TUNED
    kept: Choices = read_tuned(target)
    key = chosen.key_of(model)
    write_tuned(target, kept | {key: kept.get(key, {}) | choices})
    table = choice.table(chosen, found, model)
    _show(choices, table, target, Console())
    file = results_dir / f"{TRIALS}.parquet"
    store.write_arrow(
        file, pa.Table.from_pandas(_with_earlier(table, file, chosen), preserve_index=False)
    )
    return table


def _scores(trials_dir: Path, run_ids: Sequence[str]) -> list[Score]:
    """Return what each run reached; a diverged one counts as 0."""
    runs = store.read(trials_dir, "runs", run_ids).set_index("run_id")
    evals = store.read(trials_dir, "evals", run_ids).sort_values("step")
    curves = {str(run_id): curve for run_id, curve in evals.groupby("run_id")}

    def score(run_id: str) -> Score:
        if runs["status"][run_id] != "completed":
            return Score(0.0, 0.0)
        steps, wins = (curves[run_id][name].tolist() for name in ("step", "win_rate"))
        return Score(search.area(steps, wins), wins[-1])

    return [score(run_id) for run_id in run_ids]


def _with_earlier(table: pd.DataFrame, file: Path, chosen: Preset) -> pd.DataFrame:
    """Return trials below those of earlier searches, of other algorithms or another size."""
    if not file.exists():
        return table
    earlier = pd.read_parquet(file)
    if "area" not in earlier:  # of a search by final win rate, which knew the first size only
        earlier = earlier.assign(model=chosen.models[0], tied=False)
    anew = earlier["algorithm"].isin(table["algorithm"]) & earlier["model"].isin(table["model"])
    return pd.concat([earlier[~anew], table])


def _show(
    choices: Mapping[str, Tuned], trials: pd.DataFrame, target: Path, console: Console
) -> None:
    print_frame(console, trials, "Gold win rate on the tuning split, N = 1: area and final")
    rows = [
        {
            "algorithm": name,
            "learning_rate": f"{chosen.learning_rate:g}",
            "parameters": ", ".join(f"{k} = {v}" for k, v in chosen.algorithm_params.items()),
            "area": f"{chosen.value:.4f} (standard error {chosen.standard_error:.4f})",
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
    add_flags(parser, "--preset", "--task")
    parser.add_argument("--model", help="a size that the preset has (default: its first)")
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, help=f"of each trial, at least 2 (default: {SEEDS})"
    )
    add_flags(parser, "--workers", "--out", "--hub-dir")
    parser.add_argument(
        "--record",
        action="store_true",
        help="for maintainers: write the choices into the committed bench/experiments/tuned.toml",
    )

    def command() -> None:
        given = parser.parse_args(arguments)
        check_workers(given.workers)
        if not 2 <= given.seeds <= MOST_SEEDS:
            raise UserError(f"--seeds {given.seeds}: must be from 2 to {MOST_SEEDS}")
        chosen = preset(given.preset, given.out, given.task)
        results_dir = given.out or paths.results_dir(chosen.name)
        refuse_records(results_dir)
        if given.hub_dir is not None:
            hub.use_hub_dir(given.hub_dir)
        first = search.config_of(chosen, search.first_pass(given.algorithms[0])[0], 0, given.model)
        check([first], given.workers)
        with locked(results_dir):
            tune(
                chosen,
                given.algorithms,
                results_dir=results_dir,
                workers=given.workers,
                console=Console(stderr=True),
                model=given.model,
                seeds=given.seeds,
                into=RECORDED if given.record else None,
            )

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
