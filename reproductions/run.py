"""Runs a script: trains the runs that are missing, then shows everything."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console

from bench import hub
from bench.command import run_command
from bench.config import RunConfig
from bench.errors import UserError
from bench.experiments.flags import refuse_records
from bench.experiments.progress import say
from bench.experiments.starting_models import check, starting_models
from bench.experiments.sweep import locked, sweep
from bench.records import store
from reproductions import fresh
from reproductions.options import Options, parse
from reproductions.page import render
from reproductions.page.section import Section
from reproductions.reproduction import Reproduction
from reproductions.show import show


def reproduce(*wanted: Reproduction, page: bool = False) -> NoReturn:
    """Do what the command line asks, for one or several reproductions, and exit."""
    sys.exit(main(wanted, page=page))


def main(
    wanted: Sequence[Reproduction], arguments: Sequence[str] | None = None, *, page: bool = False
) -> int:
    """Run, draw and judge; return the exit status: 1 if a run failed, 2 for bad input.

    A figure that cannot be measured or shown does not stop the others; the status is the worst.

    Args:
        wanted: what is made.
        arguments: of the command line; None: the process's.
        page: whether what was shown is also written as a page, ``report.html``.
    """
    console = Console()
    statuses = [0]

    def command() -> None:
        options = parse("\n\n".join(one.caption for one in wanted), arguments)
        if options.hub_dir is not None:
            hub.use_hub_dir(options.hub_dir)
        possible = _possible(wanted, options.preset.name)
        asked = {one.name: one.asked(options) for one in possible}
        plans = {one.name: _runs(one, asked[one.name]) for one in possible}
        if not options.replot and any(plans.values()):
            _run(list(_unique(plans.values())), options, console)
        sections: list[Section] = []
        statuses.extend(
            _make(one, plans[one.name], asked[one.name], console, sections) for one in possible
        )
        if page and sections:
            path = options.results_dir / render.PAGE
            store.write_bytes(path, render.page(sections, options.preset).encode())
            say(console, f"Report: {path}")

    return max(run_command(command), *statuses)


def _make(
    one: Reproduction,
    runs: Sequence[RunConfig],
    options: Options,
    console: Console,
    sections: list[Section],
) -> int:
    """Measure, if that is what it takes, and show, which adds a section; return the status."""
    try:
        if one.measure is not None and not options.replot:
            one.measure(options)
        sections.append(show(one, runs, options, console))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception:  # a defect: said in full, the other figures are made
        traceback.print_exc()
        return 1
    return 0


def _possible(wanted: Sequence[Reproduction], preset: str) -> list[Reproduction]:
    """Return the reproductions that a preset supports.

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
    """Do the missing runs. Anything impossible is refused before runs are deleted or started."""
    results_dir = options.results_dir
    refuse_records(results_dir)
    with locked(results_dir), _cluster(options):
        check(configs, options.workers if options.ray is None else None)
        if options.fresh:
            fresh.delete(results_dir)
        models = starting_models(
            configs,
            results_dir=results_dir,
            record_dir=None if options.fresh else options.record_dir,
            workers=options.workers,
            console=console,
        )
        sweep(
            configs,
            models,
            results_dir=results_dir,
            preset=options.preset.name,
            workers=options.workers,
            console=console,
            gpus_per_task=options.preset.gpus if options.ray is not None else None,
        )


@contextmanager
def _cluster(options: Options) -> Iterator[None]:
    """Connect to the Ray cluster that the user asked for, if any."""
    if options.ray is None:
        yield
        return
    from bench.processes.on_ray import connection  # Ray is an extra

    with connection.connected(options.ray, cpus=options.workers or os.cpu_count()):
        connection.require_room("a run", cpus=1, gpus=options.preset.gpus)
        yield
