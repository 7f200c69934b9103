import pandas as pd
import pytest
from matplotlib.colors import to_hex

from plots.drawing import planning, style


@pytest.fixture
def frame():
    columns = ["devices", "schedule", "update_s", "ideal_s", "speed_up_split", "engine_busy",
               "learner_busy", "staleness", "staleness_mean"]  # fmt: skip
    return pd.DataFrame(
        [
            ("whole", "on_policy", 0.5, 0.5, float("nan"), 0.4, 0.6, [1.0], 0.0),
            ("split", "bounded(2)", 0.25, 0.2, 1.6, 0.9, 0.7, [0.25, 0.0, 0.75], 1.5),
        ],
        columns=columns,
    )


@pytest.fixture
def ax():
    return style.subplots(1)[1][0]


def test_times_are_bars_with_their_ideal_and_the_chosen_row_is_said(ax, frame):
    planning.update_times(ax, frame, chosen=1)
    assert [bar.get_width() for bar in ax.patches] == [500, 250]
    assert to_hex(ax.patches[1].get_facecolor()) == style.GREEN.lower()
    assert [line.get_xdata()[0] for line in ax.lines] == [500, 200]
    assert [text.get_text() for text in ax.texts] == ["", "1.60x recommended"]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["on_policy, whole", "bounded(2), split"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is at the top


def test_busy_shares_are_a_bar_for_each_side(ax, frame):
    planning.busy_shares(ax, frame)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([40, 90, 60, 70])


def test_staleness_is_a_tile_for_each_share(ax, frame):
    planning.staleness(ax, frame)
    (image,) = ax.images
    assert image.get_array().tolist() == [[1, 0, 0], [0.25, 0, 0.75]]
    assert ax.lines[0].get_xdata().tolist() == [0, 1.5]
