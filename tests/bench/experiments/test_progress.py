import re
from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from bench.experiments.progress import Display, duration
from bench.processes.pool import Event, Job


def job(label, updates=10):
    return Job(label, "log", updates, None)


class Replay:
    """A display whose clock is set by hand."""

    def __init__(self, jobs, *, terminal=False, unit="cells", **options):
        self.now = 0.0
        self.file = StringIO()
        # Not wide: a line of text must stay one line.
        console = Console(
            file=self.file, width=120 if terminal else 20, force_terminal=terminal, _environ={}
        )
        self.display = Display(jobs, console, unit, get_time=lambda: self.now, **options)

    def at(self, now, kind, index, updates=0, win_rate=float("nan"), **text):
        """Let something happen; return what is printed."""
        self.now = now
        before = len(self.file.getvalue())
        self.display.add(Event(kind, index, updates=updates, win_rate=win_rate, **text))
        return self.file.getvalue()[before:]


def test_a_finished_job_is_one_plain_line_where_there_is_no_terminal():
    replay = Replay([job("rloo seed 0"), job("ppo seed 0")])
    with replay.display:
        assert replay.at(0.0, "started", 0) == ""
        assert replay.at(10.0, "progress", 0, 1, 0.5) == ""
        assert replay.at(100.0, "progress", 0, 10, 0.8125) == ""
        # 9 updates in 90 s; the other job has 10
        assert replay.at(100.0, "finished", 0) == (
            "[1/2] rloo seed 0: win rate 0.812 in 1 min 40 s, about 1 min 40 s left\n"
        )
        replay.at(100.0, "started", 1)
        replay.at(112.0, "progress", 1, 10, 0.25)
        assert replay.at(112.0, "finished", 1) == "[2/2] ppo seed 0: win rate 0.250 in 12 s\n"
    assert replay.file.getvalue().count("\n") == 2


@pytest.mark.parametrize("terminal", [False, True])
def test_a_warning_is_printed_on_a_line_of_its_own(terminal):
    replay = Replay([job("ppo seed 0")], terminal=terminal)
    with replay.display:
        replay.at(0.0, "started", 0)
        printed = replay.at(0.0, "progress", 0, 0, warning="checkpoint /a/b: [c] is damaged")
    assert "warning: ppo seed 0: checkpoint /a/b: [c] is damaged\n" in printed


def test_what_is_done_is_counted_with_what_was_done_before():
    replay = Replay([job("a"), job("b")], already_done=3)
    replay.at(0.0, "started", 0)
    assert replay.at(10.0, "finished", 0) == "[4/5] a in 10 s, time left unknown\n"


def test_the_time_left_goes_by_the_updates_of_all_jobs_since_the_first_report():
    replay = Replay([job("a"), job("b"), job("c", updates=31)])
    replay.at(0.0, "started", 0)
    replay.at(0.0, "started", 1)
    replay.at(30.0, "progress", 0, 1)  # 30 s of imports, models and the first evaluation
    replay.at(35.0, "progress", 1, 5)
    replay.at(40.0, "progress", 0, 10)
    # 14 updates in 10 s after the first report; 5 + 31 are left: 25.7 s, rounded up
    assert replay.at(40.0, "finished", 0).endswith(" in 40 s, about 26 s left\n")


def test_jobs_that_never_report_count_when_they_are_finished():
    replay = Replay([job(f"stage {n}", updates=1) for n in range(4)])
    for index in range(4):
        replay.at(0.0, "started", index)
    assert replay.at(60.0, "finished", 0) == "[1/4] stage 0 in 1 min 0 s, time left unknown\n"
    # One in the 30 s since the first; two are left.
    assert replay.at(90.0, "finished", 1) == "[2/4] stage 1 in 1 min 30 s, about 1 min 0 s left\n"


def test_a_retried_job_says_why_and_begins_anew():
    replay = Replay([job("a"), job("b")])
    replay.at(0.0, "started", 0)
    replay.at(1.0, "progress", 0, 1)
    replay.at(9.0, "progress", 0, 9)
    assert replay.at(9.0, "retried", 0, error="it was killed; trying once more") == (
        "a: it was killed; trying once more\n"
    )
    assert replay.display._progress.tasks[0].completed == 0
    replay.at(10.0, "started", 0)
    replay.at(12.0, "progress", 0, 1)
    replay.at(21.0, "progress", 0, 10)
    # Of both attempts 18 updates in 20 s; the 10 of the other job are left: 11.1 s, rounded up
    assert replay.at(21.0, "finished", 0) == "[1/2] a in 11 s, about 12 s left\n"


def test_the_updates_that_a_job_will_never_do_are_not_waited_for():
    replay = Replay([job("diverges", updates=100), job("fails", updates=100), job("a", updates=5)])
    replay.at(0.0, "started", 0)
    replay.at(1.0, "progress", 0, 3)
    replay.at(1.0, "finished", 0)
    replay.at(1.0, "started", 1)
    replay.at(2.0, "progress", 1, 1)
    assert replay.at(2.0, "failed", 1, error="RuntimeError: no") == "fails: RuntimeError: no\n"
    (overall,) = replay.display._progress.tasks
    assert (overall.completed, overall.total) == (4, 3 + 1 + 5)
    replay.at(3.0, "started", 2)
    replay.at(4.0, "progress", 2, 1)
    replay.at(6.0, "progress", 2, 3)
    assert overall.time_remaining == 2  # at an update per second


def test_a_terminal_shows_jobs_time_left_and_win_rates():
    replay = Replay([job("rloo seed 0"), job("ppo seed 0")], terminal=True, already_done=1)
    with replay.display:
        replay.at(0.0, "started", 0)
        replay.at(0.0, "progress", 0, 1, 0.5)
        replay.at(16.0, "progress", 0, 5, 0.75)
        replay.at(16.0, "started", 1)
    # 4 s per update: 5 updates left of this job, 15 in all
    *_, overall, first, second = shown(replay).splitlines()
    assert parts(overall) == ["1/3 cells", "0:01:00"]
    assert parts(first) == ["rloo seed 0", "update 5/10 0:00:20 win rate 0.750"]
    assert parts(second) == ["ppo seed 0", "-:--:--"]


def test_a_terminal_shows_the_jobs_that_run_and_only_those():
    replay = Replay([job("rloo seed 0"), job("ppo seed 0")], terminal=True)
    with replay.display:
        replay.at(0.0, "started", 0)
        replay.at(1.0, "progress", 0, 10, 0.5)
        replay.at(1.0, "finished", 0)
        replay.at(1.0, "started", 1)
        replay.at(2.0, "failed", 1, error="RuntimeError: no")
    last = shown(replay).splitlines()[-1]
    assert parts(last)[0] == "2/2 cells"
    assert "ppo seed 0: RuntimeError: no" in shown(replay)
    assert "[1/2]" not in shown(replay)


def shown(replay):
    """Return the text without colours and cursor movements."""
    return Text.from_ansi(replay.file.getvalue()).plain.rstrip()


def parts(line):
    """Return what is to the left and to the right of a line's bar."""
    return [" ".join(part.split()) for part in re.split("[━╸╺]+", line) if part.strip()]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_duration_reads_as_people_say_it(seconds, text):
    assert duration(seconds) == text
