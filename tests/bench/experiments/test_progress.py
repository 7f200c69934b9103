from io import StringIO

import pytest
from rich.console import Console

from bench.experiments.progress import Display, Tally, duration
from bench.processes.pool import Event, Job


def job(group, updates=10):
    return Job(f"{group} seed 0", "log", group, updates, None)


class Replay:
    """A tally at a clock that is set by hand."""

    def __init__(self, jobs, workers, **options):
        self.now = 0.0
        self.tally = Tally(jobs, workers, clock=lambda: self.now, **options)

    def at(self, now, kind, index, updates=0):
        """Let something happen; return the time left after it."""
        self.now = now
        self.tally.add(Event(kind, index, updates=updates, win_rate=0.6))
        return self.tally.left_s()


def test_nothing_is_known_before_a_job_reports_twice():
    replay = Replay([job("a")], workers=1)
    assert replay.at(0.0, "started", 0) is None
    assert replay.at(12.0, "progress", 0, 1) is None  # how much of it was imports?
    assert replay.at(13.0, "progress", 0, 3) == pytest.approx(3.5)  # 0.5 s each, 7 to go


def test_the_time_left_goes_by_each_groups_pace():
    jobs = [job("fast"), job("slow"), job("fast"), job("slow"), job("new")]
    replay = Replay(jobs, workers=2)
    replay.at(0.0, "started", 0)
    replay.at(0.0, "started", 1)
    replay.at(10.0, "progress", 0, 1)
    replay.at(12.0, "progress", 1, 2)
    replay.at(14.0, "progress", 0, 5)  # fast: 4 s for 4 updates
    # slow: 6 s for 2 updates. Left: fast 5 x 1 and 10 x 1, slow 6 x 3 and 10 x 3, new 10 x the
    # pace of both, 10 s for 6 updates; over two workers
    left = replay.at(18.0, "progress", 1, 4)
    assert left == pytest.approx((5 + 10 + 18 + 30 + 100 / 6) / 2)


def test_a_workers_first_start_up_is_not_expected_again():
    replay = Replay([job("a"), job("a"), job("a")], workers=1)
    replay.at(0.0, "started", 0)
    replay.at(31.0, "progress", 0, 1)  # 30 s of imports, models and the first evaluation
    replay.at(40.0, "progress", 0, 10)  # 1 s per update
    # Nothing is known yet of a start-up without imports: twice 10 updates.
    assert replay.at(40.0, "finished", 0) == pytest.approx(20.0)
    replay.at(40.0, "started", 1)
    replay.at(44.0, "progress", 1, 1)  # 3 s and an update: the same again for the last job
    assert replay.at(49.0, "progress", 1, 6) == pytest.approx(4 + 3 + 10)


def test_the_start_up_of_a_dead_workers_successor_is_not_expected_again():
    replay = Replay([job("a"), job("a"), job("a")], workers=1)
    replay.at(0.0, "started", 0)
    replay.at(5.0, "progress", 0, 1)
    replay.at(14.0, "progress", 0, 10)
    replay.at(14.0, "finished", 0)
    replay.at(14.0, "started", 1)
    replay.at(15.0, "retried", 1)
    assert not replay.tally.running
    replay.at(15.0, "started", 1)  # in a new worker
    replay.at(36.0, "progress", 1, 1)
    assert replay.at(37.0, "progress", 1, 2) == pytest.approx(8 + 10)


def test_a_retried_job_begins_anew():
    replay = Replay([job("a")], workers=1)
    replay.at(0.0, "started", 0)
    replay.at(1.0, "progress", 0, 1)
    replay.at(5.0, "progress", 0, 9)
    replay.at(5.0, "retried", 0)
    replay.at(5.0, "started", 0)
    replay.at(6.0, "progress", 0, 1)
    assert replay.at(9.0, "progress", 0, 2) == pytest.approx(8 * 3.0)


def test_jobs_that_never_report_count_as_a_whole():
    replay = Replay([job("stage", updates=1) for _ in range(3)], workers=2)
    replay.at(0.0, "started", 0)
    replay.at(0.0, "started", 1)
    assert replay.at(60.0, "finished", 0) == pytest.approx((60 + 60) / 2)
    replay.at(60.0, "started", 2)
    replay.at(70.0, "finished", 1)
    assert replay.at(120.0, "finished", 2) == 0.0


def test_what_is_done_is_counted_with_what_was_done_before():
    replay = Replay([job("a"), job("a")], workers=1, already_done=3)
    assert (replay.tally.done, replay.tally.total) == (3, 5)
    replay.at(0.0, "started", 0)
    replay.at(10.0, "finished", 0, 10)
    replay.at(11.0, "started", 1)
    replay.at(12.0, "failed", 1)
    assert (replay.tally.done, replay.tally.spent_s(0)) == (5, 10.0)


def test_display_prints_plain_lines_where_there_is_no_terminal():
    now = [0.0]
    console = Console(file=StringIO(), width=20)
    tally = Tally([job("rloo"), job("ppo")], workers=1, clock=lambda: now[0])
    with Display(tally, console, "cells") as display:
        display.add(Event("started", 0))
        now[0] = 10.0
        display.add(Event("progress", 0, updates=1, win_rate=0.5))
        now[0] = 100.0
        display.add(Event("progress", 0, updates=10, win_rate=0.8125))
        display.add(Event("finished", 0))
        display.add(Event("started", 1))
        display.add(Event("failed", 1, error="RuntimeError: no"))
    assert console.file.getvalue().splitlines() == [
        "[1/2] rloo seed 0: win rate 0.812 in 1 min 40 s, about 1 min 40 s left",
        "ppo seed 0: RuntimeError: no",
    ]


def test_display_shows_cells_time_left_and_win_rates_on_a_terminal():
    now = [0.0]
    console = Console(file=StringIO(), width=100, force_terminal=True)
    tally = Tally([job("rloo"), job("ppo")], workers=2, clock=lambda: now[0])
    with Display(tally, console, "cells") as display:
        display.add(Event("started", 0))
        display.add(Event("progress", 0, updates=1, win_rate=0.5))
        now[0] = 16.0
        display.add(Event("progress", 0, updates=5, win_rate=0.75))
    shown = console.file.getvalue()
    # 4 s per update, 5 + 10 updates left, two workers
    for part in ("0/2 cells", "about 30 s left", "rloo seed 0", "update 5/10", "win rate 0.750"):
        assert part in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_duration_reads_as_people_say_it(seconds, text):
    assert duration(seconds) == text
