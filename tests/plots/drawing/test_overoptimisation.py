from dataclasses import replace

import pytest

from plots.drawing import overoptimisation, style
from tests.plots import sized

RATE, LONG = ("0.1m", 2e-4, 128), ("0.4m", 1e-4, 512)
DARK, LIGHT = style.size_colours(["0.1m", "0.4m"]).values()


def axes():
    return style.subplots(1)[1][0]


def drawn(ax, colour):
    """Return the lines of a colour that have more than a point, thin ones first."""
    found = [ln for ln in ax.lines if ln.get_color() == colour and len(ln.get_xdata()) > 1]
    return sorted(found, key=lambda line: line.get_linewidth())


def points(ax, marker):
    return [
        (line.get_color(), *map(float, line.get_xydata()[0]))
        for line in ax.lines
        if line.get_marker() == marker and len(line.get_xdata())
    ]


def test_the_whole_way_of_every_seed_is_drawn_with_its_mean_and_its_peak():
    record = sized.pushed({RATE: (0.80, 0.70), LONG: (0.85, 0.65)}, seeds=3)
    ax = axes()
    overoptimisation.trajectories(ax, record, "win_rate")
    for colour, dashes in ((DARK, "--"), (LIGHT, "-")):
        *seeds, mean = drawn(ax, colour)
        assert [len(line.get_xdata()) for line in (*seeds, mean)] == [17] * 4
        assert {line.get_linestyle() for line in (*seeds, mean)} == {dashes}
        assert mean.get_linewidth() > 3 * seeds[0].get_linewidth()
    # KL is the rate times 10^4 per evaluation, and the peak is the ninth evaluation of 17
    assert points(ax, "o") == [
        (DARK, pytest.approx(16.0), pytest.approx(0.80)),
        (LIGHT, pytest.approx(8.0), pytest.approx(0.85)),
    ]


def test_the_dot_on_the_proxy_is_where_gold_is_highest():
    ax = axes()
    overoptimisation.trajectories(ax, sized.pushed({RATE: (0.80, 0.70)}, seeds=2), "reward_mean")
    assert points(ax, "o") == [(DARK, pytest.approx(16.0), pytest.approx(1.0))]
    assert drawn(ax, DARK)[-1].get_ydata()[-1] == pytest.approx(2.0)


def test_a_diverged_run_ends_in_a_cross_and_counts_in_no_mean():
    record = sized.pushed({RATE: (0.80, 0.70)}, seeds=3)
    curves = record.curves
    lost = curves["seed"] == 1
    curves = curves.assign(status=curves["status"].where(~lost, "diverged"))
    curves.loc[lost, "win_rate"] = 0.1
    ax = axes()
    overoptimisation.trajectories(ax, replace(record, curves=curves), "win_rate")
    assert points(ax, "x") == [(DARK, pytest.approx(32.0), pytest.approx(0.1))]
    assert drawn(ax, DARK)[-1].get_ydata()[-1] == pytest.approx(0.70)


def test_the_key_names_sizes_and_lines():
    ax = axes()
    overoptimisation.key(ax, sized.pushed({RATE: (0.8, 0.7), LONG: (0.8, 0.7)}), "rate", "longer")
    labels = [line.get_label() for line in ax.lines]
    assert labels == ["reward model 0.1m", "reward model 0.4m", "longer", "rate"]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "-", "-", "--"]
