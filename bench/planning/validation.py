"""Predictions against runs that were made: the error of each, and their spread.

    python -m bench.planning.validation [RESULTS_DIR]

Two questions, of timed runs and of all whose engine had a process of its own:

``own``: is the simulation right? It is fed with what each batch of the run itself took. What is
left is what the simulation does not know: the threads, pipes and checks between the two sides.

``others``: would a measurement at another time have predicted the run? Of timed runs only. Times
and slowdowns are those of the other seeds of its size, so the machine's drift is in the error.

Times per update leave out the first update and those after an evaluation, during which an engine
goes on generating. Imports no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import pandas as pd
from rich.console import Console

from bench import paths
from bench.command import Parser, run_command
from bench.errors import UserError
from bench.experiments.flags import directory
from bench.experiments.progress import say
from bench.experiments.tables import print_frame
from bench.planning.continuous import PUBLISHED, simulate
from bench.planning.predict import slowdown_of
from bench.planning.simulation import NO_SLOWDOWN, Slowdown, Timeline, Work, in_turn, overlapped
from bench.records import store
from bench.staleness import Schedule

PHASES = ("wait_s", "score_s", "learn_s", "publish_s")  # of an update, as the learner sees it
AIM_MEDIAN, AIM_EACH = 0.03, 0.10  # of the relative error of the time per update


@dataclass(frozen=True)
class Recorded:
    """A run as it was recorded."""

    row: Mapping[Hashable, Any]  # of table ``runs``
    work: tuple[Work, ...]
    update_s: tuple[float, ...]  # all of each update
    staleness: tuple[int, ...]
    after_evaluation: frozenset[int]  # updates

    @property
    def apart(self) -> bool:
        """Whether the engine had a process of its own."""
        return bool(self.row["source"] == "overlapped")

    @property
    def steady(self) -> list[int]:
        """The updates whose time counts."""
        return [i for i in range(len(self.work)) if i not in self.after_evaluation]

    @property
    def mean_s(self) -> float:
        """Mean time of an update."""
        return mean(self.update_s[i] for i in self.steady)

    def simulated(self, work: Sequence[Work], slowdown: Slowdown = NO_SLOWDOWN) -> Timeline:
        """Return the simulated run of the same schedule."""
        schedule = Schedule.parse(self.row["schedule"])
        return overlapped(schedule, work, slowdown) if self.apart else in_turn(schedule, work)


def read(results_dir: Path) -> list[Recorded]:
    """Return the timed runs of a directory, and those whose engine had a process of its own.

    Raises:
        UserError: there are none, or a file cannot be read.
    """
    runs = store.read(results_dir, "runs")
    chosen = runs["timed"].notna() | (runs["source"] == "overlapped")
    runs = runs[chosen & (runs["status"] == "completed")].sort_values(["model", "timed", "seed"])
    if runs.empty:
        raise UserError(f"{results_dir}: has no timed run, and none with an engine of its own")
    tables = {
        name: dict(list(store.read(results_dir, name, runs["run_id"]).groupby("run_id")))
        for name in ("steps", "spans", "evals")
    }
    return [
        _recorded(row, *(tables[name][row["run_id"]] for name in ("steps", "spans", "evals")))
        for row in runs.to_dict("records")
    ]


def _recorded(
    row: Mapping[Hashable, Any], steps: pd.DataFrame, spans: pd.DataFrame, evals: pd.DataFrame
) -> Recorded:
    found = steps.sort_values("step").to_dict("records")
    loads = spans[spans["name"] == "load"]
    load_s = dict(zip(loads["step"], loads["end_s"] - loads["start_s"], strict=True))
    work = tuple(
        Work(
            generate_s=one["generate_s"],
            train_s=one["score_s"] + one["learn_s"],
            load_s=load_s.get(one["step"], 0.0),
            publish_s=one["publish_s"],
        )
        for one in found
    )
    whole = tuple(sum(one[name] for name in PHASES) for one in found)
    staleness = tuple(one["staleness"] for one in found)
    return Recorded(row, work, whole, staleness, frozenset(evals["step"]))


def own_error(run: Recorded) -> float:
    """Return the relative error of the time per update, fed with the run's own durations.

    As the run's own, they contain the slowdown.
    """
    times = update_times(run.simulated(run.work))
    return mean(times[i] for i in run.steady) / run.mean_s - 1


def staleness_error(run: Recorded) -> float:
    """Return the simulated mean staleness minus the recorded one, in optimiser batches."""
    return run.simulated(run.work).staleness_mean - mean(run.staleness)


def others_error(run: Recorded, runs: Sequence[Recorded]) -> float:
    """Return the relative error of a timed run, predicted from other seeds of its size.

    NaN if there are none. Of several other seeds the median prediction counts.
    """

    def other(timed: str) -> dict[int, Recorded]:
        return {
            one.row["seed"]: one
            for one in runs
            if one.row["timed"] == timed
            and one.row["model"] == run.row["model"]
            and one.row["seed"] != run.row["seed"]
        }

    arm = run.row["timed"]
    if arm != "overlapped":
        found = [one.mean_s for one in other(arm).values()]
    else:
        pairs = [
            (one, other(arm)[seed]) for seed, one in other("split").items() if seed in other(arm)
        ]
        factors = [slowdown_of(alone.work, beside.work) for alone, beside in pairs]
        if not factors:
            return float("nan")
        slowdown = Slowdown(
            median(one.engine for one in factors), median(one.learner for one in factors)
        )
        found = []
        for alone, _ in pairs:
            times = update_times(run.simulated(alone.work, slowdown))
            found.append(mean(times[i] for i in alone.steady if i < len(times)))
    return median(found) / run.mean_s - 1 if found else float("nan")


def update_times(line: Timeline) -> list[float]:
    """Return the time of each update: from the end of the one before to its own."""
    ends = [0.0, *(batch.train_end_s for batch in line.batches)]
    return [end - start for start, end in pairwise(ends)]


def errors(results_dir: Path) -> pd.DataFrame:
    """Return one row per run: what was measured, and the errors of both predictions."""
    runs = read(results_dir)
    rows = []
    for run in runs:
        timed = run.row["timed"]
        rows.append(
            {
                "model": run.row["model"],
                "schedule": run.row["schedule"],
                "arm": timed if pd.notna(timed) else "-",
                "seed": run.row["seed"],
                "update_ms": 1e3 * run.mean_s,
                "own_%": 100 * own_error(run),
                "others_%": 100 * others_error(run, runs) if pd.notna(timed) else float("nan"),
                "stale": mean(run.staleness),
                "stale_error": staleness_error(run),
            }
        )
    return pd.DataFrame(rows)


def published() -> pd.DataFrame:
    """Return the mean staleness of engines that never stop: see ``bench.planning.continuous``."""
    return pd.DataFrame(
        [
            {
                "concurrency": one.concurrency,
                "batch": one.batch,
                "queue": one.capacity,
                "ratio": one.ratio,
                "tail": one.tail,
                "formula": one.staleness_mean,
                "simulated": simulate(one),
                "published": predicted,
                "measured": measured,
            }
            for one, predicted, measured in PUBLISHED
        ]
    )


def summary(table: pd.DataFrame, what: str) -> str:
    """Return the median and the largest error of some runs as a sentence."""
    found = (table[what] / 100).abs().dropna()
    met = "met" if found.median() < AIM_MEDIAN and found.max() < AIM_EACH else "not met"
    return (
        f"{len(found)} runs, median {found.median():.1%}, largest {found.max():.1%}; aim: median "
        f"below {AIM_MEDIAN:.0%}, each below {AIM_EACH:.0%}: {met}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the errors; return the exit status."""

    def command() -> None:
        parser = Parser(prog="python -m bench.planning.validation", description=__doc__)
        default = paths.record_dir("tiny")
        parser.add_argument("results_dir", nargs="?", type=directory, default=default)
        results_dir = parser.parse_args(arguments).results_dir
        table, console = errors(results_dir), Console()
        print_frame(console, table.round(4), f"predicted over measured - 1, {results_dir}")
        print_frame(console, published().round(2), "mean staleness of engines that never stop")
        say(console, f"Fed with a run's own durations: {summary(table, 'own_%')}.")
        for arm, rows in table[table["arm"] != "-"].groupby("arm"):
            if rows["others_%"].notna().any():
                say(console, f"From other seeds, {arm}: {summary(rows, 'others_%')}.")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
