import numpy as np
import pytest

from plots.drawing import arms, style
from plots.drawing.arms import COLOURS, win_rate_against
from reproductions.loading import beside
from tests.plots.armed import Made, record

TITLES = {"step": "Updates?", "run_s": "Time?", "kl_nats": "KL?"}
K = {"K = 2": Made(0.2, 10.0), "K = 4": Made(0.15, 12.0, updates=32, generate_s=0.08)}
SIZES = {"2m": 2.0, "0.1m": 1.0}


def axes():
    return style.subplots(1)[1][0]


def bold(ax, colour):
    """Return the mean path [(x, y)] in a colour."""
    (line,) = [ln for ln in ax.lines if ln.get_color() == colour and ln.get_lw() == 1.3]
    return line.get_xydata()


def test_a_row_for_each_size_smallest_first_and_a_column_for_each_x():
    figure = win_rate_against(record(K, SIZES), TITLES)
    assert len(figure.axes) == 6
    assert [ax.get_ylabel() for ax in figure.axes[::3]] == [
        "0.1m\ngold win rate", "2m\ngold win rate",
    ]  # fmt: skip
    assert [ax.get_title(loc="left") for ax in figure.axes] == [*TITLES.values(), "", "", ""]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["K = 2", "K = 4"]
    assert [line.get_color() for line in legend.get_lines()] == list(COLOURS[:2])
    # Win rates of a size are on one axis; those of two sizes are not.
    limits = [ax.get_ylim() for ax in figure.axes]
    assert limits[0] == limits[1] == limits[2] != limits[3]


@pytest.mark.parametrize(
    ("x", "ends"),
    [
        ("step", (64.0, 32.0)),
        ("run_s", (64 * 0.06, 32 * 0.08)),  # the longer of generation and training, .06 s
        ("kl_nats", (10.0, 12.0)),
    ],
)
def test_paths_end_at_the_mean_of_the_final_policies(x, ends):
    ax = axes()
    arms.paths(ax, record(K), x)
    found = [bold(ax, colour)[-1] for colour in COLOURS[:2]]
    # .5 + .2 and .5 + .15, and .02 more on average over seeds
    assert np.array(found) == pytest.approx(np.array([(ends[0], 0.72), (ends[1], 0.67)]))
    starts = [bold(ax, colour)[0] for colour in COLOURS[:2]]
    assert np.array(starts) == pytest.approx(np.array([(0.0, 0.5)] * 2))
    thin = [ln for ln in ax.lines if ln.get_lw() == 0.4]
    assert len(thin) == 2 * 5
    assert "SFT" in [text.get_text() for text in ax.texts]


def test_the_column_of_time_says_how_long_the_phases_of_the_first_arm_take():
    figure = win_rate_against(record(K, SIZES), TITLES)
    above, below = (figure.axes[i].get_xlabel() for i in (1, 4))
    assert above == "K = 2: generation 40 ms, training 60 ms"
    assert below == f"seconds, the two phases overlapping\n{above}"


def test_runs_without_times_are_said_to_have_none():
    untimed = record({"K = 2": Made(0.2, 10.0, generate_s=np.nan)})
    figure = win_rate_against(untimed, TITLES)
    assert [text.get_text() for text in figure.axes[1].texts] == ["no times were recorded"]
    assert figure.axes[1].get_xlabel() == "seconds, the two phases overlapping"
    assert len(figure.axes[0].get_yticks()) > 2  # the axis is shared


def test_several_algorithms_differ_in_their_dashes_and_are_named():
    one, other = record(K), record(K)
    other.final["algorithm"] = other.curves["algorithm"] = "online_ipo"
    both = beside(one, other)
    ax = axes()
    arms.paths(ax, both, "step")
    dashes = {ln.get_linestyle() for ln in ax.lines if ln.get_color() == COLOURS[0]}
    assert {"-", "--"} <= dashes
    (legend,) = win_rate_against(both, TITLES).legends
    assert legend.get_texts()[1].get_text() == "Online IPO, K = 2"
