from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from plots.analysis import stats
from plots.analysis.frames import Record
from plots.drawing import panels, style
from tests.plots import simulated
from tests.plots.simulated import GRID


def record(**kwargs):
    return Record.of(*simulated.tables(**kwargs))


def axes():
    return style.subplots(1)[1][0]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def dots(ax, marker, colour):
    """Return the points [(x, y)] drawn without a line in a marker and colour."""
    return [
        (float(x), float(y))
        for line in ax.lines
        if line.get_marker() == marker and line.get_color() == colour
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def bar_ends(container):
    """Return (lo, hi) of an error bar's last bar, or None."""
    bars = container[2]
    return tuple(bars[-1].get_segments()[0][:, 1]) if bars else None


def test_against_episodes_draws_each_seed_and_the_mean_in_the_colour_of_n():
    ppo = record(grid=(1, 64), seeds=3).where(algorithm="ppo")
    ax = axes()
    panels.against_episodes(ax, ppo, "kl_nats")
    assert len(ax.lines) == 2 * 3 + 2
    dark = style.n_colours([1, 64])[1]
    last = [line.get_ydata()[-1] for line in ax.lines if line.get_color() == dark]
    seeds = ppo.final[ppo.final["n"] == 1]["kl_nats"].tolist()
    assert sorted(last) == pytest.approx(sorted([*seeds, np.mean(seeds)]))
    assert max(line.get_xdata()[-1] for line in ax.lines) == 128 * 64
    assert not ax.collections  # never a band


def test_n_key_lists_every_n_in_its_colour():
    ax = axes()
    panels.n_key(ax, record(seeds=1))
    written = {text.get_text(): text.get_color() for text in ax.texts}
    palette = {str(n): colour for n, colour in style.n_colours(GRID).items()}
    assert written == palette | {"N =": style.GREY}


def test_frontier_paths_start_at_sft_and_end_at_the_mean_of_the_seeds():
    ppo = record().where(algorithm="ppo")
    ax = axes()
    panels.frontier_paths(ax, ppo)
    light = style.n_colours(GRID)[64]
    final = ppo.final[ppo.final["n"] == 64]
    (path,) = [ln for ln in ax.lines if ln.get_color() == light and len(ln.get_xdata()) == 9]
    assert (path.get_xdata()[0], path.get_ydata()[0]) == (0.0, pytest.approx(0.58))
    assert path.get_xdata()[-1] == pytest.approx(final["kl_nats"].mean())
    assert dots(ax, ".", light) == [
        pytest.approx(point) for point in final[["kl_nats", "win_rate"]].to_numpy()
    ]
    assert "SFT" in texts(ax)


def test_frontier_ends_link_the_means_in_order_of_n_and_name_the_ends():
    whole = record(algorithms={"ppo": (0.9, 0.05, 20.0)})
    ax = axes()
    panels.frontier_ends(ax, whole)
    (line,) = [
        line for line in ax.lines if line.get_marker() == "None" and len(line.get_xdata()) == 7
    ]
    means = whole.final.groupby("n")[["kl_nats", "win_rate"]].mean()
    assert line.get_xydata() == pytest.approx(means.to_numpy())
    labels = {text.get_text(): text.xy for text in ax.texts}
    assert labels["1"] == pytest.approx(tuple(means.loc[1]))
    assert labels["64"] == pytest.approx(tuple(means.loc[64]))


def test_frontier_ends_draw_a_diverged_run_as_a_cross_at_kl_0():
    ax = axes()
    panels.frontier_ends(ax, record(diverged=[("rloo", 64, 3)]))
    assert dots(ax, "x", style.LOOKS["rloo"].colour) == [(0.0, 0.58)]


def test_frontier_ends_stand_an_algorithm_that_always_diverged():
    lost = [("ppo", n, seed) for n in (1, 2) for seed in (0, 1)]
    ax = axes()
    panels.frontier_ends(ax, record(grid=(1, 2), seeds=2, diverged=lost))
    assert len(dots(ax, "x", style.LOOKS["ppo"].colour)) == 4


def test_against_n_draws_every_seed_the_mean_and_its_interval():
    whole = record(algorithms={"ppo": (0.9, 0.05, 20.0)})
    ax = axes()
    panels.against_n(ax, whole)
    points = dots(ax, ".", style.LOOKS["ppo"].colour)
    assert sorted(y for _, y in points) == pytest.approx(sorted(whole.final["win_rate"]))
    cell = whole.final[whole.final["n"] == 16]["win_rate"]
    assert sorted(y for x, y in points if x == 16) == pytest.approx(sorted(cell))
    expected = stats.win_rate_interval(cell)
    assert bar_ends(ax.containers[4]) == pytest.approx((expected.lo, expected.hi))
    assert {"PPO", "SFT"} <= set(texts(ax))
    assert [type(drawn) for drawn in ax.collections] == [LineCollection] * 7  # bars, never a band
    (level,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert level.get_ydata()[0] == pytest.approx(0.58)


def test_against_n_draws_a_diverged_run_as_a_cross_that_counts_in_the_mean():
    whole = record(algorithms={"rloo": (0.9, 0.0, 20.0)}, noise=0.0, diverged=[("rloo", 64, 3)])
    ax = axes()
    panels.against_n(ax, whole)
    colour = style.LOOKS["rloo"].colour
    assert dots(ax, "x", colour) == [(64.0, 0.58)]
    assert len(dots(ax, ".", colour)) == 34
    assert ax.containers[-1][0].get_ydata()[0] == pytest.approx((4 * 0.9 + 0.58) / 5)


def test_one_seed_has_no_interval_and_says_so():
    one = record(seeds=1)
    for panel in (panels.against_n, panels.frontier_ends, panels.against_episodes):
        ax = axes()
        panel(ax, one if panel is not panels.against_episodes else one.where(algorithm="ppo"))
        assert "1 seed" in texts(ax)
        assert all(bar_ends(container) is None for container in ax.containers)


def test_a_new_algorithm_appears_beside_the_others():
    extra = dict(simulated.PAPER_LIKE) | {"my_loss": (0.85, 0.02, 12.0)}
    whole = record(algorithms=extra)
    n_axes, bars = axes(), axes()
    panels.against_n(n_axes, whole)
    panels.tolerance_bars(bars, whole)
    assert "my loss" in texts(n_axes)
    assert len(dots(n_axes, ".", style.looks(extra)["my_loss"].colour)) == 35
    assert any(label.get_text().startswith("my loss\n") for label in bars.get_yticklabels())


def test_tolerance_bars_are_opt_best_on_top_with_intervals():
    whole = record()
    ax = axes()
    panels.tolerance_bars(ax, whole)
    names = [label.get_text().split("\n") for label in ax.get_yticklabels()]
    assert names[0] == ["Online DPO", "N80 > 64"]
    opt = stats.tolerance(
        whole.by_n("online_dpo", GRID), whole.by_n("online_dpo", GRID, "sft_win_rate")[1], GRID
    ).opt
    assert opt is not None
    widths = [patch.get_width() for patch in ax.patches]
    assert widths[0] == pytest.approx(opt.estimate)
    assert widths == sorted(widths, reverse=True)
    assert ax.yaxis_inverted()
    assert f"{opt.estimate:.2f}" in texts(ax)
    segment = ax.containers[1][2][0].get_segments()[0]
    assert segment[:, 0] == pytest.approx([opt.lo, opt.hi])


def test_tolerance_bars_of_the_mean_over_training():
    # Half of the runs' gain is lost at each doubling, and so half of the area's.
    whole = record(algorithms={"ppo": (0.9, 0.5, 20.0)}, grid=(1, 2), noise=0.0)
    ax = axes()
    panels.tolerance_bars(ax, whole, "win_rate_area")
    assert [patch.get_width() for patch in ax.patches] == pytest.approx([0.75])
    assert ax.get_xlabel() == "OPT (mean), N = 1 to 2"


def test_win_rates_are_drawn_with_a_ceiling_that_is_known_and_near():
    whole = record(grid=(1, 2), seeds=5)
    drawn = (panels.against_n, panels.frontier_ends, panels.frontier_paths)
    for panel in (*drawn, panels.against_episodes):
        for ceiling in (0.92, 1.0, None):  # win rates are .58 to .91, or .87 to .91 where they end
            ax = axes()
            panel(ax, replace(whole.where(algorithm="ppo"), ceiling=ceiling))
            levels = [ln.get_ydata()[0] for ln in ax.lines if ln.get_linestyle() == ":"]
            assert levels == ([0.92] if ceiling == 0.92 else [])
            assert ("ceiling 0.920" in texts(ax)) == (ceiling == 0.92)


def test_tolerance_bars_print_undefined_without_a_gain():
    ax = axes()
    panels.tolerance_bars(ax, record(algorithms={"copg": (0.581, 0.0, 5.0)}))
    assert texts(ax) == ["undefined:\nno clear gain on-policy"]
    assert not ax.patches
