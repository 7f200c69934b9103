import pytest

from bench.experiments.presets import preset
from plots.analysis.frames import Record
from reproductions import fig_schedule
from reproductions.options import Options
from tests.plots import timed


def test_of_several_sizes_the_largest_is_shown():
    runs, evals, steps, spans = timed.tables(seeds=1, models=("0.1m", "2m"))
    mixed = runs.sample(frac=1, random_state=0)
    record = Record.of(mixed, evals, steps, spans)
    table = fig_schedule.tabulate(record, Options(preset=preset("tiny")))
    found = table.groupby("arm")["update_s"].max()
    # 2m takes twice: 62 + 20 + 50 + 8, 55 + 15 + 40 and 3 + 22 + 55 + 10 ms.
    assert found.to_dict() == pytest.approx({"split": 0.28, "whole": 0.22, "overlapped": 0.18})
    figure = fig_schedule.draw(record)
    assert "model 2m" in figure.get_supxlabel()
