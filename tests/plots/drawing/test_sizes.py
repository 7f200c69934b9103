import numpy as np
import pytest

from plots.analysis import stats
from plots.drawing import sizes, style
from tests.plots import sized

COLOURS = style.size_colours(["0.1m", "0.2m", "0.8m"])


def axes():
    return style.subplots(1)[1][0]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def lines(ax, colour, marker="None"):
    return [ln for ln in ax.lines if ln.get_color() == colour and ln.get_marker() == marker]


def test_frontier_draws_the_way_of_each_n_and_its_end_in_the_colour_of_the_size():
    record = sized.record(grid=(1, 4, 16))
    ax = axes()
    sizes.frontier(ax, record, "model")
    runs = record.where(model="0.8m").final
    ways = [line for line in lines(ax, COLOURS["0.8m"]) if len(line.get_xdata()) == 9]
    ends = runs.groupby("n")[["kl_nats", "win_rate"]].mean().to_numpy()
    assert [line.get_xydata()[-1].tolist() for line in ways] == [
        pytest.approx(end.tolist()) for end in ends
    ]
    assert [line.get_xydata()[0].tolist() for line in ways] == [[0.0, pytest.approx(0.58)]] * 3
    dots = [point for line in lines(ax, COLOURS["0.8m"], ".") for point in line.get_xydata()]
    expected = runs.sort_values(["n", "seed"])[["kl_nats", "win_rate"]].to_numpy()
    assert np.array(dots) == pytest.approx(expected)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0.1m", "0.2m", "0.8m"]
    assert texts(ax) == ["16", "1"] * 3


def test_frontier_of_reward_models_holds_the_policy():
    ax = axes()
    sizes.frontier(ax, sized.record(grid=(1, 4)), "reward_model")
    assert ax.get_legend().get_title().get_text() == "reward model"
    assert [len(lines(ax, colour, ".")) for colour in COLOURS.values()] == [2, 2, 2]


def test_retained_is_the_share_of_the_on_policy_gain():
    record = sized.record(grid=(1, 4, 16), noise=0.01)
    ax = axes()
    sizes.retained(ax, record, "model")
    runs = record.where(model="0.1m", reward_model="0.2m")
    wins = runs.by_n("online_dpo", [1, 4, 16])
    means = wins.mean().to_numpy() - 0.58
    (line,) = [ln for ln in lines(ax, COLOURS["0.1m"]) if len(ln.get_xdata()) == 3]
    assert line.get_ydata() == pytest.approx(means / means[0])
    assert ax.containers[2][2][0].get_segments()[0][:, 1] == pytest.approx(
        (lambda i: (i.lo, i.hi))(stats.retention(wins, np.full(5, 0.58))[2])
    )
    assert sorted(texts(ax)) == ["0.1m", "0.2m", "0.8m"]


def test_retained_names_a_size_without_a_gain_and_draws_the_others():
    flat = sized.record(grid=(1, 4), top=0.581)
    ax = axes()
    sizes.retained(ax, flat, "model")
    assert texts(ax) == ["no clear gain at N = 1: 0.1m, 0.2m, 0.8m"]


def test_of_a_single_size_the_panels_say_that_there_is_no_comparison():
    one = sized.record({("0.1m", "0.1m"): 0.03}, grid=(1, 4))
    for panel in (sizes.frontier, sizes.retained):
        for swept, word in (("model", "policy"), ("reward_model", "reward model")):
            ax = axes()
            panel(ax, one, swept)
            assert f"one size of {word}: no comparison" in texts(ax)


def test_algorithms_beside_the_first_are_dashed_and_have_another_marker():
    ax = axes()
    sizes.retained(ax, sized.record(algorithms=("online_dpo", "ppo"), grid=(1, 4)), "model")
    drawn = [ln for ln in lines(ax, COLOURS["0.1m"]) if len(ln.get_xdata()) == 2]
    assert [line.get_linestyle() for line in drawn] == ["-", "--"]
    assert {line.get_marker() for line in ax.lines} == {"None", ".", "o", "s"}
    assert sorted(texts(ax)) == ["0.1m", "0.2m", "0.8m"]  # once
