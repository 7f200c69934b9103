import matplotlib as mpl
import pytest
from matplotlib.colors import to_hex

from plots.analysis import overlap
from plots.analysis.frames import Record
from plots.drawing import style, timelines
from tests.plots import timed


@pytest.fixture
def record():
    return Record.of(*timed.tables())


@pytest.fixture
def ax():
    return style.subplots(1)[1][0]


def widths(ax, colour):
    return [p.get_width() for p in ax.patches if to_hex(p.get_facecolor()) == colour.lower()]


def test_update_bars_stack_the_phases(ax, record):
    timelines.update_bars(ax, overlap.arms(record, "online_dpo", "0.1m"))
    # means over seeds 0, 1, 2, which wait 0, 1, 2 ms longer; the async wait is all waiting
    assert widths(ax, timelines.PHASES["generate"]) == pytest.approx([61, 56, 0])
    assert widths(ax, timelines.PHASES["learn"]) == pytest.approx([50, 40, 55])
    ideal = next(line for line in ax.lines if line.get_linestyle() == "--")
    assert ideal.get_xdata()[0] == pytest.approx((80 + 80 + 80) / 3)


def test_gantt_draws_the_spans_of_its_window_alone(ax, record):
    spans = record.spans[record.spans["run_id"] == "0.1m-split-s0"]
    timelines.gantt(ax, spans, 5, 6)
    assert widths(ax, timelines.PHASES["generate"]) == pytest.approx([60, 60])
    assert widths(ax, timelines.PHASES["learn"]) == pytest.approx([50, 50])
    assert [text.get_text() for text in ax.texts] == ["5", "6", "5", "6"]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "engine\n43% busy", "learner\n56% busy",
    ]  # fmt: skip
    assert ax.get_xlim() == pytest.approx((0, 280))


def test_final_by_arm_marks_what_counts_as_equal(ax, record):
    timelines.final_by_arm(ax, record, 0.02)
    band = next(p for p in ax.patches if to_hex(p.get_facecolor()) == "#efefef")
    low, high = band.get_y(), band.get_y() + band.get_height()
    assert (low, high) == pytest.approx((0.881, 0.921), abs=1e-5)  # about the mean of .900 to .902


def test_win_rate_over_time_draws_each_run_and_a_mean_per_arm(ax, record):
    timelines.win_rate_over_time(ax, record)
    ends = {arm: [line for line in ax.lines if line.get_color() == colour]
            for arm, colour in timelines.COLOURS.items()}  # fmt: skip
    assert {arm: len(lines) for arm, lines in ends.items()} == {
        "split": 5, "whole": 5, "overlapped": 5,
    }  # fmt: skip
    assert mpl.rcParams["axes.spines.top"] is False
