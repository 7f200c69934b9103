"""What a sweep shows while it runs: cells done, time left, win rates of the running cells."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bench.pool import Event, Job


class Tally:
    """Counts what is done and estimates the time left from the pace of each group of jobs."""

    def __init__(
        self,
        jobs: Sequence[Job],
        workers: int,
        *,
        already_done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with nothing done but ``already_done`` jobs of an earlier sitting."""
        self.jobs = jobs
        self.total = already_done + len(jobs)
        self.done = already_done
        self.running: dict[int, Event] = {}
        self.win_rates: dict[int, float] = {}
        self._workers = workers
        self._clock = clock
        self._updates = [0] * len(jobs)
        self._started: dict[int, float] = {}
        self._spent = [0.0] * len(jobs)
        self._ended: set[int] = set()

    def add(self, event: Event) -> None:
        """Take note of an event."""
        index, now = event.index, self._clock()
        match event.kind:
            case "started":
                self._started[index] = now
                self._updates[index] = 0
                self.running[index] = event
            case "progress":
                self._updates[index] = event.updates
                self.running[index] = event
                self.win_rates[index] = event.win_rate
            case "retried":
                self.running.pop(index, None)
            case _:
                self._updates[index] = self.jobs[index].updates
                self.running.pop(index, None)
                self._ended.add(index)
                self.done += 1
        if index in self._started:
            self._spent[index] = now - self._started[index]

    def spent_s(self, index: int) -> float:
        """Return how long a job took, or has taken until its last event."""
        return self._spent[index]

    def left_s(self) -> float | None:
        """Return the expected time until all is done, or None before there is anything to go by.

        The seconds per update of each group are those seen so far (of all groups where a group
        has not begun), and the rest is spread evenly over the workers.
        """
        seconds: dict[str, float] = defaultdict(float)
        updates: dict[str, int] = defaultdict(int)
        for index, job in enumerate(self.jobs):
            seconds[job.group] += self._spent[index] if self._updates[index] else 0.0
            updates[job.group] += self._updates[index]
        if not sum(updates.values()):
            return None
        overall = sum(seconds.values()) / sum(updates.values())
        pending = [i for i in range(len(self.jobs)) if i not in self._ended]
        left = 0.0
        for index in pending:
            group = self.jobs[index].group
            pace = seconds[group] / updates[group] if updates[group] else overall
            left += pace * (self.jobs[index].updates - self._updates[index])
        return left / max(1, min(self._workers, len(pending)))


class Display:
    """Shows a tally: live on a terminal, else one plain line per finished job."""

    def __init__(self, tally: Tally, console: Console, unit: str) -> None:
        """Show on ``console``, counting in ``unit`` ("cells")."""
        self._tally = tally
        self._console = console
        self._unit = unit
        self._live = (
            Live(get_renderable=self._render, console=console, refresh_per_second=4)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Display:
        """Start showing."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop showing; the last state stays."""
        if self._live is not None:
            self._live.stop()

    def add(self, event: Event) -> None:
        """Take note of an event and show it."""
        self._tally.add(event)
        label = self._tally.jobs[event.index].label
        if event.kind == "finished" and self._live is None:
            win_rate = self._tally.win_rates.get(event.index, math.nan)
            shown = "" if math.isnan(win_rate) else f": win rate {win_rate:.3f}"
            say(
                self._console,
                f"[{self._tally.done}/{self._tally.total}] {label}{shown} in "
                f"{duration(self._tally.spent_s(event.index))}{self._left()}",
            )
        elif event.kind in ("retried", "failed"):
            say(self._console, f"{label}: {event.error}")

    def _left(self) -> str:
        left = self._tally.left_s()
        if self._tally.done == self._tally.total:
            return ""
        return ", time left unknown" if left is None else f", about {duration(left)} left"

    def _render(self) -> Group:
        tally = self._tally
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(f"{tally.done}/{tally.total} {self._unit}"),
            ProgressBar(total=max(1, tally.total), completed=tally.done, width=40),
            Text(self._left().removeprefix(", "), style="cyan"),
        )
        rows = Table.grid(padding=(0, 2))
        for index, event in sorted(tally.running.items()):
            job = tally.jobs[index]
            rate = tally.win_rates.get(index, math.nan)
            rows.add_row(
                Text(f"  {job.label}"),
                Text(f"update {event.updates}/{job.updates}", style="dim"),
                Text("" if math.isnan(rate) else f"win rate {rate:.3f}", style="green"),
            )
        return Group(head, rows)


def say(console: Console, text: str) -> None:
    """Print text as it is, on one line however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a time as people say it: "8 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
