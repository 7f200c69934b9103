import pandas as pd
import pytest

from plots.drawing import style, throughput
from tests.bench.throughput import made


@pytest.fixture
def frame():
    return pd.DataFrame([{**row, **made.PROVENANCE} for row in made.session()])


@pytest.fixture
def ax():
    return style.subplots(1)[1][0]


def lines(ax, colour):
    """Return (x, y) of every line in a colour that has more than one point or a marker."""
    return [
        (list(line.get_xdata()), list(line.get_ydata()))
        for line in ax.lines
        if line.get_color() == colour and line.get_marker() not in ("", "None", None)
    ]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def bars(ax):
    """Return the ends of every vertical error bar, in the order drawn."""
    return [
        tuple(segment[:, 1]) for found in ax.collections for segment in found.get_segments()
    ]  # fmt: skip


def test_generation_draws_a_line_per_engine_and_size(ax, frame):
    throughput.generation(ax, frame)
    # 0.1m: 10 ms (1 + rows / 32) for 20 rows tokens: 640 / 0.02, 2560 / 0.05, 10240 / 0.17
    assert lines(ax, style.BLUE)[0] == ([32, 128, 512], pytest.approx([32000, 51200, 60235.29]))
    assert len(lines(ax, style.BLUE)) == len(lines(ax, style.VERMILLION)) == 3
    # the quartiles are 10% beside the median: 640 tokens in 22 ms to 640 in 18 ms
    assert any(bar == pytest.approx((640 / 0.022, 640 / 0.018)) for bar in bars(ax))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["this suite's HF engine", "vLLM", "transformers' generate"]
    assert texts(ax) == ["0.1m", "0.4m", "2m"]


def test_generation_without_vllm_does_not_speak_of_it(ax, frame):
    throughput.generation(ax, frame[frame["series"] != "vllm"])
    assert "vLLM" not in [text.get_text() for text in ax.get_legend().get_texts()]


def test_learner_step_says_what_share_of_the_machine_is_used(ax, frame):
    throughput.learner_step(ax, frame)
    widths = [patch.get_width() for patch in ax.patches]
    assert widths == pytest.approx([25600] * 5)  # 2560 tokens in 100 ms
    # the same operations take 40 ms alone and 20 ms at the peak
    assert texts(ax) == ["20% of matmul peak\n40% of its matmuls"] * 5
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == ["PPO", "RLOO"]


def test_handoff_draws_times_and_what_is_aimed_for(ax, frame):
    throughput.handoff(ax, frame)
    assert lines(ax, style.BLUE)[0] == ([0, 1, 2], pytest.approx([2, 4, 16]))
    limits = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert limits == pytest.approx([30, 150])
    assert {"30 ms aimed for", "150 ms aimed for", "160"} <= set(texts(ax))


def test_updates_draw_times_per_update_ratios_and_the_ideal(ax, frame):
    throughput.updates(ax, frame)
    # two updates a round: 320 ms by 2
    assert [y for _, (y,) in lines(ax, style.VERMILLION)] == pytest.approx([160, 320, 1280])
    assert [y for _, (y,) in lines(ax, style.ORANGE)] == pytest.approx([250])
    ideal = [line.get_ydata()[0] for line in ax.lines if line.get_color() == style.BLACK]
    assert ideal == pytest.approx([150, 300, 1200])
    # 200 / 160, 180 / 160, 200 / 150; and 250 / 200
    assert texts(ax).count("1.25x split\n1.12x all\nideal 1.33x") == 3
    assert "1.25x ours" in texts(ax)


def test_updates_without_processes_draw_the_plain_update(ax, frame):
    one = frame[frame["benchmark"] == "update_beside_trl"].head(1)
    throughput.updates(ax, one.assign(benchmark="update"))
    assert [y for _, (y,) in lines(ax, style.GREEN)] == pytest.approx([200])


def test_sizes_come_in_order_of_parameters():
    assert throughput.by_size(["2m", "0.4m", "1b", "2m"]) == ["0.4m", "2m", "1b"]
