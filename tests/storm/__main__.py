"""A kill storm: signals to random processes of real sweeps, which must end as if undisturbed.

python -m tests.storm --minutes 60 --seed 0 --report docs/storm.md

Exit status 1 if a number changed, a process or a file was left, a wait was too long, or a command
ended otherwise than it should. What is drawn depends on the seed alone, when it hits on the clock.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from bench.experiments.progress import duration, say
from bench.paths import ROOT
from bench.records import provenance

from .scenarios import SCENARIOS, choose
from .storm import Storm
from .tally import Rows, Tally, markdown


class TimeLeft(ProgressColumn):
    """The time that the task has left, its total being seconds."""

    def render(self, task: Task) -> Text:
        """Return it as text."""
        return Text(f"{duration(max(0.0, (task.total or 0.0) - (task.elapsed or 0.0)))} left")


def main() -> int:
    """Run the command; return its exit status."""
    names = [one.name for one in SCENARIOS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.storm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="rounds begin until then")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenarios", nargs="+", choices=names, default=names)
    parser.add_argument("--report", type=Path, help="write the tables there, as Markdown")
    given = parser.parse_args()

    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="storm-"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left alive
    storm = Storm(choose(given.scenarios), directory, given.seed)
    start = time.monotonic()
    try:
        _rounds(storm, given.minutes * 60, console)
    except KeyboardInterrupt:
        say(console, "stopped")
    spent_s = time.monotonic() - start
    for rows in (storm.tally.strike_rows(), storm.tally.fault_rows()):
        console.print(_table(rows))
    say(console, storm.tally.text())
    if given.report is not None:
        given.report.write_text(report(storm.tally, given.seed, spent_s))
    if storm.tally.faults.total():
        say(console, f"Files of the rounds with faults: {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


def _rounds(storm: Storm, limit_s: float, console: Console) -> None:
    """Do rounds for some time, at least one, with a display."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeLeft()
    with Progress(*columns, console=console, disable=not console.is_interactive) as progress:
        bar = progress.add_task("undisturbed runs", total=limit_s)
        storm.prepare(lambda name: say(console, f"undisturbed: {name}"))
        progress.reset(bar)
        start, number, said = time.monotonic(), 0, 0
        while number == 0 or time.monotonic() < start + limit_s:
            storm.round(number)
            number += 1
            for line in storm.tally.lines[said:]:
                say(console, line)
            said = len(storm.tally.lines)
            status = f"{storm.tally.text()}, {storm.tally.strikes.total()} hits, {said} faults"
            progress.update(bar, completed=time.monotonic() - start, description=status)
            if progress.disable:
                say(console, f"{duration(time.monotonic() - start)}: {status}")


def report(tally: Tally, seed: int, spent_s: float) -> str:
    """Return the tables as Markdown, with where they were made."""
    revision, dirty = provenance.git_state(ROOT)
    code = f"{revision[:12]}{' with uncommitted changes' if dirty else ''}"
    host = f"{provenance.code_and_host()['cores']} cores of {provenance.cpu_name()}"
    lines = [
        f"`python -m tests.storm --seed {seed}`, {duration(spent_s)}, code {code}, {host}: "
        f"{tally.text()}.",
        markdown(tally.strike_rows()),
        markdown(tally.fault_rows()),
        *(f"- {line.splitlines()[0]}" for line in tally.lines),
    ]
    return "\n\n".join(lines) + "\n"


def _table(rows: Rows) -> Table:
    head, *body = rows
    table = Table()
    for name in head:
        table.add_column(name)
    for row in body:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    sys.exit(main())
