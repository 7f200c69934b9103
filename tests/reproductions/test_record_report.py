from bench import paths
from reproductions import record_report


def test_the_page_says_what_the_record_says():
    assert record_report.main(["--check"]) == 0


def test_a_number_typed_by_hand_is_noticed(tmp_path, monkeypatch, capsys):
    page = paths.record_dir("tiny") / record_report.PAGE
    changed = tmp_path / record_report.PAGE
    changed.write_text(page.read_text().replace("**reproduced", "**surely reproduced", 1))
    monkeypatch.setattr(record_report, "page", lambda: changed)
    assert record_report.main(["--check"]) == 1
    assert "is out of date" in capsys.readouterr().err
