import pytest

from plots.drawing import style, targets
from tests.plots.drawing.test_panels import axes, record, texts


def test_updates_to_half_draws_seeds_medians_and_who_was_never_there():
    whole = record(algorithms={"ppo": (0.9, 0.1, 20.0)}, grid=(1, 64), seeds=3, noise=0.0)
    ax = axes()
    targets.updates_to_half(ax, whole)
    colour = style.LOOKS["ppo"].colour
    # Half of .58 to .9 is .74, which N = 1 crosses between .72 at 32 and .775 at 48 updates, and
    # N = 64, which ends at .708, never does.
    at = 32 + 16 * 0.02 / 0.055
    solid, hollow = [ln for ln in ax.lines if ln.get_marker() == style.LOOKS["ppo"].marker]
    assert (solid.get_xdata().tolist(), solid.get_ydata()) == ([1] * 3, pytest.approx([at] * 3))
    assert (hollow.get_xdata().tolist(), hollow.get_ydata().tolist()) == ([64] * 3, [128] * 3)
    assert (hollow.get_mfc(), hollow.get_color()) == ("none", colour)
    (median,) = [ln for ln in ax.lines if ln.get_marker() == "None"]
    assert median.get_xydata().tolist() == [[1.0, pytest.approx(at)]]


def test_updates_to_half_say_that_nothing_is_gained_on_fresh_data():
    ax = axes()
    targets.updates_to_half(ax, record(grid=(2, 4), seeds=1))
    assert texts(ax) == ["no gain on fresh data"]
