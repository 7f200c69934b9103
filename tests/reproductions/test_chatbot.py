"""Figure 9 and its table: the task that they are made of, and what they show."""

import math
from dataclasses import replace

import pytest

from bench.experiments.presets import preset
from plots.analysis import claims, lengths, registry
from plots.analysis.frames import Record
from reproductions import fig_chatbot, table_chatbot
from reproductions.options import Options
from reproductions.reproduction import CLAIMS
from tests.plots import timed
from tests.plots.analysis.test_lengths import outcomes

FIGURE = fig_chatbot.REPRODUCTION


def record(**win_rates: float) -> Record:
    """Return five seeds per arm that never happened, with the outcomes of their prompts."""
    found = Record.of(*timed.tables(seeds=5, win_rates=win_rates))
    found.final["reward_model"] = "0.1m"
    return lengths.add_lengths(found, outcomes(found, {"split": 2, "whole": 2, "overlapped": 3}))


def test_it_has_a_task_of_its_own_unless_the_user_names_one(tmp_path):
    asked = replace(Options(preset=preset("worth")), out=tmp_path)
    own = FIGURE.asked(asked)
    runs = FIGURE.grid(own)
    assert {run.stage.task.name for run in runs} == {"chat_worth"}
    assert {run.stage.model for run in runs} == {"0.4m"}
    assert sorted(run.timed for run in runs) == ["overlapped", "split", "whole"]
    assert {run.stage.params.sft_steps for run in runs} == {2500}
    assert (
        own.preset.choice("online_dpo") is None
    )  # what was tuned for the preset's task is not its
    named = replace(asked, preset=preset("worth", task="tldr_tiny"))
    assert FIGURE.asked(named) is named
    vllm = replace(asked, preset=replace(asked.preset, engine="vllm"))
    assert FIGURE.asked(vllm).preset.engine == "vllm"


def test_at_smoke_its_runs_are_those_of_figure_1():
    from reproductions.fig_sync_vs_async import REPRODUCTION as figure_1

    smoke = Options(preset=preset("smoke"))
    assert FIGURE.asked(smoke) is smoke
    assert {run.config_hash() for run in FIGURE.grid(smoke)} == {
        run.config_hash() for run in figure_1.grid(smoke)
    }


def test_the_table_has_sft_the_arms_and_the_references():
    table = table_chatbot.tabulate(record(), Options(preset=preset("worth"))).set_index("model")
    assert list(table.index) == ["SFT", "sync, split", "sync, whole", "async", "reference"]
    # Arms end at .9 to .904 over five seeds, SFT at .6; the last evaluation is 8 updates at .1 s.
    assert table["win_rate"].tolist()[:4] == pytest.approx([0.6, 0.902, 0.902, 0.902])
    assert table["training_s"].tolist()[1:4] == pytest.approx([0.8] * 3)
    assert table["kl_nats"].tolist()[:2] == pytest.approx([0, 0.8])
    assert table["mean_tokens"].tolist() == pytest.approx([10] * 5)
    assert table["seeds"].tolist() == [5, 5, 5, 5, 0]
    assert math.isnan(table.loc["SFT", "at_equal_length"])
    # Where lengths are equal, half lost and half won; longer ones: half tied, half won.
    assert table["at_equal_length"].tolist()[1:4] == pytest.approx([0.5] * 3, abs=1e-3)


def test_the_verdicts_follow_from_the_arms():
    def status(found: Record) -> dict[str, str]:
        judged = claims.judge(registry.load(CLAIMS), "fig_chatbot", found, "worth")
        return {verdict.claim.id: verdict.status for verdict in judged}

    equal = status(record(split=0.8, whole=0.8, overlapped=0.81))
    assert equal == {
        "C15a": "reproduced", "C15a-area": "reproduced", "C15b": "reproduced",
        "C15c": "reproduced", "C15d": "reproduced",
    }  # fmt: skip
    worse = status(record(split=0.8, whole=0.8, overlapped=0.7))
    assert worse["C15a"] == "not reproduced"


def test_the_figure_draws_with_outcomes_and_without():
    untold = Record.of(*timed.tables(seeds=2))
    none = lengths.add_lengths(untold, outcomes(untold, {}).iloc[:0])
    for one in (record(), none):
        figure = fig_chatbot.draw(one)
        assert len(figure.axes) == 6
