"""A plan with its figure."""

from bench.paths import FIGURES, record_dir
from reproductions import plan

GIVEN = ["--generate-s", "2", "--train-s", "1", "--updates", "8"]


def test_a_plan_is_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert plan.main([*GIVEN, "--out", str(tmp_path)]) == 0
    for kind in ("png", "svg"):
        assert (tmp_path / FIGURES / f"plan.{kind}").stat().st_size > 0
    assert f"Figure: {tmp_path}/figures/plan.png" in capsys.readouterr().out


def test_nothing_is_put_among_recorded_runs(capsys):
    assert plan.main([*GIVEN, "--out", str(record_dir("tiny"))]) == 2
    assert "holds recorded runs" in capsys.readouterr().err
