"""What a sweep shows while it runs: cells done, time left, win rates of the running cells."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bench.processes.pool import Event, Job


class Tally:
    """Counts what is done and estimates the time left.

    A job takes its start-up (loading models, the first evaluation), then its updates at its group's
    pace. The pace is measured from a job's first report on. The start-up is that of jobs in workers
    that had a job before: a worker's first also imports the libraries, once.
    """

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
        self._started: dict[int, float] = {}
        self._first: dict[int, tuple[float, int]] = {}  # a job's first report: when, updates done
        self._last: dict[int, tuple[float, int]] = {}
        self._ended: dict[int, float] = {}
        self._used_workers = 0  # idle workers that have the libraries
        self._warm: set[int] = set()  # jobs that were started in one of them

    def add(self, event: Event) -> None:
        """Take note of an event."""
        index, now = event.index, self._clock()
        match event.kind:
            case "started":
                self._started[index] = now
                self._first.pop(index, None)
                if self._used_workers:
                    self._used_workers -= 1
                    self._warm.add(index)
                self.running[index] = event
            case "progress":
                self._last[index] = now, event.updates
                self._first.setdefault(index, self._last[index])
                self.running[index] = event
                self.win_rates[index] = event.win_rate
            case "retried":  # its worker is dead
                self._warm.discard(index)
                self.running.pop(index, None)
            case _:
                self._ended[index] = now
                self._used_workers += 1
                self.running.pop(index, None)
                self.done += 1

    def spent_s(self, index: int) -> float:
        """Return how long a finished job took."""
        return self._ended[index] - self._started[index]

    def left_s(self) -> float | None:
        """Return the expected time until all is done, or None before there is anything to go by.

        A group that has not begun is expected to keep the pace of all others. What is left is
        spread evenly over the workers.
        """
        overall = self._pace(range(len(self.jobs)))
        if overall is None:
            overall = self._pace_of_ended()
        if overall is None:
            return None
        members: dict[str, list[int]] = defaultdict(list)
        for index, job in enumerate(self.jobs):
            members[job.group].append(index)
        paces = {group: self._pace(indices) or overall for group, indices in members.items()}
        start_up = self._start_up(paces)
        left = 0.0
        pending = [i for i in range(len(self.jobs)) if i not in self._ended]
        for index in pending:
            job = self.jobs[index]
            begun = index in self._first
            done = self._last[index][1] if begun else 0
            left += paces[job.group] * (job.updates - done) + (0.0 if begun else start_up)
        return left / max(1, min(self._workers, len(pending)))

    def _pace(self, indices: Iterable[int]) -> float | None:
        """Return the seconds per update after the first report, None where there are none."""
        seconds, updates = 0.0, 0
        for index in indices:
            if index in self._first:
                seconds += self._last[index][0] - self._first[index][0]
                updates += self._last[index][1] - self._first[index][1]
        return seconds / updates if updates else None

    def _pace_of_ended(self) -> float | None:
        """Return the seconds per update of whole jobs: all there is where none reports twice."""
        updates = sum(self.jobs[index].updates for index in self._ended)
        return sum(map(self.spent_s, self._ended)) / updates if updates else None

    def _start_up(self, paces: Mapping[str, float]) -> float:
        """Return the mean time before a warm job's first update; 0 before one has been seen."""
        seen = []
        for index in self._warm & self._first.keys():
            at, updates = self._first[index]
            updating = updates * paces[self.jobs[index].group]
            seen.append(max(0.0, at - self._started[index] - updating))
        return sum(seen) / len(seen) if seen else 0.0


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
