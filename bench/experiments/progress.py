"""What a sweep shows while it runs: cells done, time left, win rates of the running cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bench.processes.pool import Event, Job


class Display:
    """Shows jobs as they run: bars on a terminal, else one plain line per finished job.

    The time left is estimated from the updates of all jobs per second since the first report.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        console: Console,
        unit: str,
        *,
        already_done: int = 0,
        get_time: Callable[[], float] | None = None,
    ) -> None:
        """Start with nothing done but ``already_done`` jobs of earlier sweeps.

        Args:
            jobs: to be shown.
            console: where.
            unit: what the jobs are ("cells").
            already_done: counted with the jobs; their updates are not.
            get_time: a clock in seconds; None: the console's.
        """
        self._jobs = jobs
        self._console = console
        self._unit = unit
        self._done, self._total = already_done, already_done + len(jobs)
        self._updates: dict[int, int] = {}  # done by each job that reported or ended
        self._total_updates = sum(job.updates for job in jobs)
        self._win_rates: dict[int, str] = {}
        self._rows: dict[int, TaskID] = {}  # of running jobs
        self._started_s: dict[int, float] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", style="dim"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[win_rate]}", style="green"),
            console=console,
            disable=not console.is_interactive,
            refresh_per_second=4,
            speed_estimate_period=math.inf,
            get_time=get_time,
        )
        self._overall = self._progress.add_task("", count="", win_rate="")
        self._show_overall()

    def __enter__(self) -> Display:
        """Start showing."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop showing; the last state stays."""
        self._progress.stop()

    def add(self, event: Event) -> None:
        """Record an event and show it."""
        index, job = event.index, self._jobs[event.index]
        match event.kind:
            case "started":
                self._started_s[index] = self._progress.get_time()
                self._rows[index] = self._progress.add_task(
                    f"  {job.label}", total=job.updates, count="", win_rate=""
                )
            case "progress":
                self._updates[index] = event.updates
                if not math.isnan(event.win_rate):
                    self._win_rates[index] = f"win rate {event.win_rate:.3f}"
                self._progress.update(
                    self._rows[index],
                    completed=event.updates,
                    count=f"update {event.updates}/{job.updates}",
                    win_rate=self._win_rates.get(index, ""),
                )
            case "retried":
                self._progress.remove_task(self._rows.pop(index))
                self._updates.pop(index, None)
            case _:
                self._progress.remove_task(self._rows.pop(index))
                self._done += 1
                if event.kind == "finished":
                    self._updates.setdefault(index, job.updates)  # it may report nothing
                self._total_updates -= job.updates - self._updates.get(index, 0)
        self._show_overall()
        if event.warning:
            say(self._console, f"warning: {job.label}: {event.warning}")
        if event.kind in ("retried", "failed"):
            say(self._console, f"{job.label}: {event.error}")
        elif event.kind == "finished" and self._progress.disable:
            say(self._console, self._line(index))

    def _show_overall(self) -> None:
        self._progress.update(
            self._overall,
            description=f"{self._done}/{self._total} {self._unit}",
            completed=sum(self._updates.values()),
            total=self._total_updates,
        )

    def _line(self, index: int) -> str:
        """Return what to print of a finished job."""
        win_rate = f": {self._win_rates[index]}" if index in self._win_rates else ""
        spent_s = self._progress.get_time() - self._started_s[index]
        left = ""
        if self._done < self._total:
            left_s = self._progress.tasks[0].time_remaining
            left = ", time left unknown" if left_s is None else f", about {duration(left_s)} left"
        done = f"[{self._done}/{self._total}] {self._jobs[index].label}"
        return f"{done}{win_rate} in {duration(spent_s)}{left}"


def say(console: Console, text: str) -> None:
    """Print text as it is, on one line however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a time as text: "8 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
