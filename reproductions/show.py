"""The output of a script: figure, table, verdicts, and the comparison with the record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
from rich.console import Console

from bench.config import RunConfig
from bench.experiments.progress import say
from bench.experiments.tables import print_frame
from bench.paths import FIGURES
from bench.records import store
from bench.records.marker import mark
from plots.analysis import claims, registry
from plots.analysis.frames import Record
from plots.drawing import style
from reproductions.comparison import compare, compare_beside
from reproductions.loading import beside, find_record, load, load_beside
from reproductions.options import Options
from reproductions.page.section import Section
from reproductions.report import (
    print_beside,
    print_comparison,
    print_verdicts,
    say_what_is_missing,
    say_what_is_mixed,
)
from reproductions.reproduction import CLAIMS, Reproduction

KINDS = {".parquet": "Table", ".json": "Trace"}  # by suffix; the others are figures


def show(
    one: Reproduction, runs: Sequence[RunConfig], options: Options, console: Console
) -> Section:
    """Draw, tabulate, judge and compare; return what was shown.

    Raises:
        UserError: there is nothing to show, or a file cannot be read or written.
    """
    source, record = find_record(one, runs, options)
    drawn, others = record, None
    labels = one.labels(runs, options.preset)
    if options.beside is not None and runs and one.draw is not None:
        others = load_beside(
            options.beside,
            runs,
            options.preset,
            arms=one.arm is not None,
            columns=one.columns,
        )
        drawn = beside(record, others)
    console.rule(one.name)
    judged: list[claims.Verdict] = []
    if options.preset.verdicts:
        judged = claims.judge(registry.load(CLAIMS), one.name, record, options.preset.name)
    table = one.tabulate(drawn, options) if one.tabulate is not None else None
    paths = _files(one, drawn, table, judged, options, console)
    if options.preset.verdicts:
        if judged:
            print_verdicts(console, judged)
        _say_what_is_untuned(record, options, console)
        _say_what_is_tuned_elsewhere(record, options, console)
    else:
        say(console, f"Preset {options.preset.name} shows that the code runs: no verdicts.")
    compared = next_to = None
    if runs and source != options.record_dir and store.has_runs(options.record_dir):
        recorded = load(options.record_dir, runs, options.preset, all_seeds=True)
        compared = compare(record, recorded, runs, labels)
        print_comparison(console, compared)
    say(console, f"Data: {source}{_coverage(record, runs)}")
    say_what_is_mixed(console, record.final if runs else record.throughput)
    for remark in drawn.remarks:
        say(console, remark)
    if runs:
        say_what_is_missing(console, record, runs, labels)
    if others is not None:
        say(console, f"Beside it: {options.beside} ({len(others.final)} runs)")
        next_to = compare_beside(others, record)
        print_beside(console, next_to)
    for path in paths:
        say(console, f"{KINDS.get(path.suffix, 'Figure')}: {path}")
    return Section(
        one=one,
        preset=options.preset,
        runs=runs,
        record=record,
        drawn=drawn,
        source=source,
        judged=judged,
        table=table,
        figure=next((path for path in paths if path.suffix == ".svg"), None),
        compared=compared,
        beside=next_to,
    )


def _files(
    one: Reproduction,
    drawn: Record,
    table: pd.DataFrame | None,
    judged: Sequence[claims.Verdict],
    options: Options,
    console: Console,
) -> list[Path]:
    """Write the figure, the table and other files; print the table."""
    figures = options.results_dir / FIGURES
    store.check_writable(figures)
    mark(options.results_dir)
    paths: list[Path] = []
    if one.draw is not None:
        figure = one.draw(drawn)
        if saturated := [v.claim.id for v in judged if v.status == "invalid: saturated"]:
            bound = "all arms are at the ceiling, or all at 0"
            style.remark(figure, f"Invalid, saturated ({bound}): {', '.join(saturated)}")
        paths += style.save(figure, figures / one.name)
    if table is not None:
        if table.empty:
            say(console, "Too few of the grid's cells for its table.")
        else:
            print_frame(console, table, one.name)
            paths.append(figures / f"{one.name}.parquet")
            store.write_arrow(paths[-1], pa.Table.from_pandas(table, preserve_index=False))
    if one.export is not None:
        paths += one.export(drawn, figures)
    return paths


def _say_what_is_untuned(record: Record, options: Options, console: Console) -> None:
    names = list(dict.fromkeys(name.partition(" (")[0] for name in record.untuned()))  # of series
    if not names:
        return
    say(
        console,
        f"Untuned: {', '.join(names)}. A comparison with tuned algorithms is not fair; tune by: "
        f"{_command(options, names)}",
    )


def _say_what_is_tuned_elsewhere(record: Record, options: Options, console: Console) -> None:
    """Name the sizes that run at the choice made at another, in a line each."""
    if "tuned_at" not in record.final:
        return
    frame = record.final[record.final["tuned_at"].notna()]
    for (model, other), runs in frame.groupby(["model", "tuned_at"]):
        names = sorted(runs["algorithm"].unique())
        say(
            console,
            f"Tuned at {other}: {', '.join(names)} at {model}; tune it there by: "
            f"{_command(options, names, str(model))}",
        )


def _command(options: Options, algorithms: Sequence[str], model: str | None = None) -> str:
    """Return the command that tunes algorithms."""
    flags = {
        "preset": options.preset.name,
        "task": options.preset.task,
        "model": model,
        "algorithms": ",".join(algorithms),
        "out": options.out,
    }
    given = " ".join(f"--{name} {value}" for name, value in flags.items() if value is not None)
    return f"python -m bench.tuning {given}"


def _coverage(record: Record, runs: Sequence[RunConfig]) -> str:
    cells = len({run.config_hash() for run in runs})
    if not cells:
        return ""
    drawn = record.final["config_hash"].nunique()
    return f" ({drawn} of {cells} cells, {record.final['run_id'].nunique()} runs)"
