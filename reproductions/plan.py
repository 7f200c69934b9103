"""Predict what asynchrony gains on this machine, with a figure.

All that `python -m bench.plan` does, with the same flags. Per model, from left to right: the time
per update of each schedule, with the ideal and the speed-up over taking turns on split devices; how
busy engine and learner are; how stale the batches are when they are trained on.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

import sys
from collections.abc import Sequence

from matplotlib.figure import Figure
from rich.console import Console

from bench import paths
from bench.command import run_command
from bench.experiments.flags import refuse_records
from bench.experiments.progress import say
from bench.plan import Plan, parse, plans, show
from plots.drawing import planning, style


def draw(found: Sequence[Plan]) -> Figure:
    """Draw three panels per model."""
    rows = sum(len(plan.predictions) for plan in found)
    figure, axes = style.subplots(
        3, rows=len(found), height=0.9 * len(found) + 0.19 * rows, ratios=(1.6, 1, 1)
    )
    for row, plan in enumerate(found):
        times, busy, stale = axes[3 * row : 3 * row + 3]
        planning.update_times(times, plan.table, plan.chosen)
        planning.busy_shares(busy, plan.table)
        planning.staleness(stale, plan.table)
        times.set_title(f"({'abcdefgh'[row]}) {plan.measured.model}: predicted")
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""

    def command() -> None:
        given, console = parse(arguments), Console()
        results_dir = given.out or paths.results_dir(given.preset)
        refuse_records(results_dir)
        found = plans(given, console)
        show(found, console)
        for path in style.save(draw(found), results_dir / paths.FIGURES / "plan"):
            say(console, f"Figure: {path}")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
