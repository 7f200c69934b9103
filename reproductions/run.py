"""Figures and tables of arXiv:2410.18252, one script each, and what the scripts share.

A script states its grid of runs and how they are drawn; ``reproduce`` runs what is missing, draws,
judges the registered claims and compares with the record. Imports torch only to run something.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pandas as pd
import pyarrow as pa
from rich.console import Console

from bench.config import RunConfig
from bench.errors import UserError
from bench.experiments.presets import ORDER
from bench.experiments.progress import say
from bench.experiments.sweep import SweepError, build_stages, locked, sweep
from bench.paths import CHECKPOINTS, FIGURES, LOGS, RECORDS, UNFINISHED
from bench.records import store
from plots.analysis import claims
from plots.analysis.frames import Record
from plots.drawing import style
from reproductions.options import Grid, Options, parse
from reproductions.report import compare, print_comparison, print_frame, print_verdicts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.types import StageModels

CLAIMS = Path(__file__).with_name("claims.toml")
KINDS = {".parquet": "Table", ".json": "Trace"}  # by suffix; the others are figures
MADE_HERE = (*store.SCHEMAS, UNFINISHED, CHECKPOINTS, FIGURES, LOGS)


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """One figure or table of the paper."""

    name: str
    caption: str
    grid: Grid = lambda options: []  # noqa: ARG005
    draw: Callable[[Record], Figure] | None = None
    tabulate: Callable[[Record, Options], pd.DataFrame] | None = None
    export: Callable[[Record, Path], list[Path]] | None = None  # other files, into a directory
    every_seed: bool = True  # False: the result does not depend on the seed
    measure: Callable[[Options], None] | None = None  # in place of the runs of a grid
    read: Callable[[Path], Record | None] | None = None  # what it measured, if a directory has it
    presets: tuple[str, ...] = ORDER  # where it can be made


def reproduce(*wanted: Reproduction) -> NoReturn:
    """Do what the command line asks, for one or several reproductions, and exit."""
    sys.exit(main(wanted))


def main(wanted: Sequence[Reproduction], arguments: Sequence[str] | None = None) -> int:
    """Run, draw and judge; return the exit status: 1 if a run failed, 2 for bad input."""
    console = Console()
    try:
        options = parse("\n\n".join(one.caption for one in wanted), arguments)
        wanted = _possible(wanted, options.preset.name)
        plans = {one.name: _runs(one, options) for one in wanted}
        if not options.replot:
            if any(plans.values()):
                _run(list(_unique(plans.values())), options, console)
            for one in wanted:
                if one.measure is not None:
                    one.measure(options)
        for one in wanted:
            _show(one, plans[one.name], options, console)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except SweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "stopped; what was finished is kept, the same command (without --fresh) goes on",
            file=sys.stderr,
        )
        return 130
    return 0


def _possible(wanted: Sequence[Reproduction], preset: str) -> list[Reproduction]:
    """Return those that can be made at a preset.

    Raises:
        UserError: there are none.
    """
    possible = [one for one in wanted if preset in one.presets]
    if not possible:
        allowed = ", ".join(wanted[0].presets)
        raise UserError(f"--preset {preset}: {wanted[0].name} is made at {allowed}")
    return possible


def _runs(one: Reproduction, options: Options) -> list[RunConfig]:
    """Return the runs of a grid, all cells of a seed before the next seed."""
    seeds = options.seeds or range(options.preset.seeds)
    cells = one.grid(options)
    return [cell.with_seed(seed) for seed in (seeds if one.every_seed else (0,)) for cell in cells]


def _unique(plans: Iterable[list[RunConfig]]) -> list[RunConfig]:
    """Return the runs of all grids, each once, in order of their seeds."""
    runs = {(run.config_hash(), run.seed): run for plan in plans for run in plan}
    return sorted(runs.values(), key=lambda run: run.seed)


def _run(configs: Sequence[RunConfig], options: Options, console: Console) -> None:
    results_dir = options.results_dir
    refuse_records(results_dir)
    with locked(results_dir), _cluster(options):
        sweep(
            configs,
            _models(configs, options, console),
            results_dir=results_dir,
            preset=options.preset.name,
            workers=options.workers,
            console=console,
            gpus_per_task=options.preset.gpus if options.ray is not None else None,
        )


def refuse_records(results_dir: Path) -> None:
    """Make sure that nothing new is put among recorded runs.

    Raises:
        UserError: the directory holds them.
    """
    if results_dir.resolve().is_relative_to(RECORDS):
        raise UserError(f"--out {results_dir}: holds recorded runs; choose another directory")


@contextmanager
def _cluster(options: Options) -> Iterator[None]:
    """Be connected to the Ray cluster that the user asked for, if any."""
    if options.ray is None:
        yield
        return
    from bench.processes.on_ray import connection

    with connection.connected(options.ray, cpus=options.workers):
        connection.require_room("a run", cpus=1, gpus=options.preset.gpus)
        yield


def _models(
    configs: Sequence[RunConfig], options: Options, console: Console
) -> dict[str, StageModels]:
    """Return what the runs start from: the user's checkpoints, else the recorded, else new ones.

    What cannot be done is refused before anything is deleted, trained or run.
    """
    from bench import algorithms, hub
    from bench.engines import vllm
    from bench.stages import find
    from bench.tasks import build_task

    if options.hub_dir is not None:
        hub.use_hub_dir(options.hub_dir)
    mine = options.results_dir / CHECKPOINTS
    caches = [] if options.fresh else [mine, options.record_dir / CHECKPOINTS]
    stages = {config.stage.hash(): config.stage for config in configs}
    for config in configs:
        algorithms.build(config.algorithm, config.algorithm_params)
    if any(config.engine == "vllm" for config in configs):
        vllm.require_installed()
    for stage in stages.values():
        build_task(stage.task, stage.task_params)
    found = {name: find(stage, caches) for name, stage in stages.items()}
    missing = {name: stages[name] for name, models in found.items() if models is None}

    if options.fresh:
        for name in MADE_HERE:
            shutil.rmtree(options.results_dir / name, ignore_errors=True)
    if missing:
        build_stages(missing, mine, workers=options.workers, console=console)
        found |= {name: find(stage, [mine]) for name, stage in missing.items()}
    return {name: models for name, models in found.items() if models is not None}


def _show(one: Reproduction, runs: Sequence[RunConfig], options: Options, console: Console) -> None:
    """Draw, tabulate, judge and compare."""
    source, record = _find_record(one, runs, options)
    figures = options.results_dir / FIGURES
    store.check_writable(figures)
    console.rule(one.name)
    paths: list[Path] = []
    if one.draw is not None:
        paths += style.save(one.draw(record), figures / one.name)
    if one.tabulate is not None:
        table = one.tabulate(record, options)
        if table.empty:
            say(console, "Too few of the grid's cells for its table.")
        else:
            print_frame(console, table, one.name)
            paths.append(figures / f"{one.name}.parquet")
            store.write_arrow(paths[-1], pa.Table.from_pandas(table, preserve_index=False))
    if one.export is not None:
        paths += one.export(record, figures)
    if options.preset.verdicts:
        judged = claims.judge(claims.load(CLAIMS), one.name, record, options.preset.name)
        if judged:
            print_verdicts(console, judged)
    else:
        say(console, f"Preset {options.preset.name} shows that the code runs: no verdicts.")
    if runs and source != options.record_dir and store.has_runs(options.record_dir):
        recorded = load(options.record_dir, runs, all_seeds=True)
        print_comparison(console, compare(record, recorded, runs))
    of = ""
    if cells := len({run.config_hash() for run in runs}):
        drawn = record.final["config_hash"].nunique()
        of = f" ({drawn} of {cells} cells, {len(record.final)} runs)"
    say(console, f"Data: {source}{of}")
    for path in paths:
        say(console, f"{KINDS.get(path.suffix, 'Figure')}: {path}")


def _find_record(
    one: Reproduction, runs: Sequence[RunConfig], options: Options
) -> tuple[Path, Record]:
    """Return the user's runs of a grid or, to replot where there are none, the recorded ones."""
    if not options.replot and one.read is None:
        return options.results_dir, load(options.results_dir, runs, all_seeds=False)
    places = [options.results_dir, *([] if options.out else [options.record_dir])]
    for place in places:
        if one.read is not None:
            if (measured := one.read(place)) is not None:
                return place, measured
        elif store.has_runs(place):
            record = load(place, runs, all_seeds=options.seeds is None)
            if len(record.final):
                return place, record
    raise UserError(
        f"--replot: no runs of {one.name} at preset {options.preset.name} in "
        f"{' or '.join(map(str, places))}; give the command without --replot to run them"
    )


def load(results_dir: Path, runs: Sequence[RunConfig], *, all_seeds: bool) -> Record:
    """Read the given runs from a results directory, or all seeds of their cells.

    Where a cell was run from several generations of SFT and reward models, the latest run counts.

    Raises:
        UserError: a file cannot be read.
    """
    frame = store.read(results_dir, "runs").sort_values("started_utc")
    frame = frame.drop_duplicates(["config_hash", "seed"], keep="last")
    keys = pd.MultiIndex.from_frame(frame[["config_hash", "seed"]])
    wanted = pd.MultiIndex.from_tuples([(run.config_hash(), run.seed) for run in runs])
    chosen = keys.get_level_values(0).isin(wanted.get_level_values(0))
    frame = frame[chosen if all_seeds else keys.isin(wanted)].sort_values("run_id")
    timed = frame.loc[frame["timed"].notna(), "run_id"]
    return Record.of(
        frame,
        store.read(results_dir, "evals", frame["run_id"]),
        store.read(results_dir, "steps", frame["run_id"]),
        store.read(results_dir, "spans", timed) if len(timed) else None,
    )
