import shutil

import pytest

from bench import paths
from bench.experiments.presets import preset
from reproductions import record_report


@pytest.fixture(scope="module")
def pages():
    return record_report.pages(preset("tiny"))


def test_the_pages_say_what_the_record_says(pages):
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text


def test_a_figure_of_which_only_shared_cells_are_there_is_left_out(pages):
    markdown = next(text for path, text in pages.items() if path.suffix == ".md")
    assert "## `fig_offpolicy_ppo`" in markdown
    assert "fig_old_logprobs" not in markdown  # of it PPO and RLOO with behaviour log-probs are


def test_the_same_record_gives_the_same_bytes(pages):
    assert record_report.pages(preset("tiny")) == pages


@pytest.mark.parametrize("name", ["REPORT.md", "report.html"])
def test_a_number_typed_by_hand_is_noticed(name, pages, tmp_path, monkeypatch, capsys):
    here = {tmp_path / path.name: text for path, text in pages.items()}
    for path in pages:
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(record_report, "pages", lambda _: here)
    assert record_report.main(["--check"]) == 0
    changed = tmp_path / name
    changed.write_text(changed.read_text().replace("reproduced at tiny", "surely reproduced", 1))
    assert record_report.main(["--check"]) == 1
    assert f"{name} is out of date" in capsys.readouterr().err
    assert record_report.main([]) == 0
    assert record_report.main(["--check"]) == 0


def test_a_preset_without_a_record_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RECORDS", tmp_path)
    assert record_report.main(["--preset", "small", "--check"]) == 2
    assert "there are no recorded runs of preset small" in capsys.readouterr().err
