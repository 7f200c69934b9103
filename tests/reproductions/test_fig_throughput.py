import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import UserError
from bench.experiments.presets import preset
from bench.experiments.sweep import locked
from bench.throughput import table
from plots.analysis import claims, registry
from reproductions import fig_throughput
from reproductions import run as script
from reproductions.fig_throughput import REPRODUCTION
from reproductions.options import Options
from reproductions.reproduction import CLAIMS
from tests.bench import fake_driver
from tests.bench.fake_driver import A, B
from tests.bench.throughput import made

ROOT = Path(__file__).parents[2]


def write(place, rows=None):
    table.write(place / "throughput", rows or made.session(), made.PROVENANCE)


def test_replot_draws_the_table_says_which_targets_are_met_and_judges(results, capsys):
    write(results / "reference" / "tiny")
    assert script.main([REPRODUCTION], ["--replot"]) == 0
    output = capsys.readouterr().out
    figure = results / "tiny" / "figures" / "fig_throughput"
    assert f"Data: {results}/reference/tiny\n" in output
    assert f"Figure: {figure}.png\nFigure: {figure}.svg\nTable: {figure}.parquet" in output
    assert figure.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    met = pd.read_parquet(figure.with_suffix(".parquet")).groupby("quantity")["met"].sum()
    # of six hand-offs vLLM's at 2m is too slow; neither TRL's ratio nor the overlap is enough
    assert met.to_dict() == {"ms at most": 5, "overlap efficiency": 0, "times as fast": 0}
    verdicts = [line.split() for line in output.splitlines() if line.strip().startswith("C17")]
    assert [line[0] for line in verdicts] == ["C17a", "C17b"]


def test_claims_compare_engines_round_by_round_at_the_largest_batch():
    frame = pd.DataFrame([{**row, "session": "1"} for row in made.session()])
    small = (frame["series"] == "vllm") & (frame["rows"] < 512)
    frame.loc[small, "rounds_s"] = [(9.0,) * 5] * small.sum()  # of no account
    record = fig_throughput.record_of(frame)
    judged = {
        v.claim.id: v for v in claims.judge(registry.load(CLAIMS), "fig_throughput", record, "tiny")
    }
    # Four times as fast at 2m and half as fast at 0.1m, in every round.
    c17a, c17b = judged["C17a"], judged["C17b"]
    assert (c17a.interval.estimate, c17a.interval.n) == (pytest.approx(3.0), 5)
    assert c17a.text == "reproduced at tiny scale"
    assert "not over seeds" in c17a.reason
    assert c17b.interval.estimate == pytest.approx(3.5)
    assert c17b.text == "not tested at this scale"


def test_claims_without_vllm_are_inconclusive():
    rows = [{**row, "session": "1"} for row in made.session() if row["series"] != "vllm"]
    record = fig_throughput.record_of(pd.DataFrame(rows))
    judged = claims.judge(registry.load(CLAIMS), "fig_throughput", record, "tiny")
    assert judged[0].status == "inconclusive"
    assert "0 of 5" in judged[0].reason


def test_a_slower_engine_refutes_the_claim():
    rows = made.generation("0.1m", 32) + made.generation("0.1m", 512)
    record = fig_throughput.record_of(pd.DataFrame([{**row, "session": "1"} for row in rows]))
    judged = claims.judge(registry.load(CLAIMS), "fig_throughput", record, "tiny")
    assert judged[0].interval.estimate == pytest.approx(-0.5)
    assert judged[0].status == "not reproduced"


def fails(capsys, arguments):
    """Return the one line on stderr of a command that must end with status 2."""
    assert script.main([REPRODUCTION], arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_replot_without_a_table_says_where_it_looked(results, capsys):
    assert fails(capsys, ["--replot"]) == (
        "error: --replot: no runs of fig_throughput at preset tiny in "
        f"{results}/tiny or {results}/reference/tiny; give the command without --replot to run them"
    )


def test_a_damaged_table_is_named(results, capsys):
    write(results / "tiny")
    (path,) = (results / "tiny" / "throughput").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    assert fails(capsys, ["--replot"]) == (
        f"error: {path} is a truncated or damaged Parquet file: delete it"
    )


def test_presets_that_are_not_measured_are_refused(capsys):
    assert fails(capsys, ["--preset", "paper"]) == (
        "error: --preset paper: fig_throughput is made at smoke, tiny"
    )


def test_the_record_is_not_measured_into(results, capsys):
    place = results / "reference" / "tiny"
    assert fails(capsys, ["--out", str(place)]) == (
        f"error: --out {place}: holds recorded runs; choose another directory"
    )


def test_benchmarks_that_fail_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(fig_throughput, "BENCHMARKS", ROOT / "tests" / "nowhere" / "below")
    with pytest.raises(UserError, match="the benchmarks failed, see above: pytest's status 4"):
        fig_throughput.measure(Options(preset=preset("smoke"), out=tmp_path))


TRIES_THE_LOCK = """
import fcntl, os, pathlib
out = pathlib.Path(os.environ["ASYNC_RLHF_BENCH_OUT"])
with (out.parent / ".lock").open("w") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (out.parent / "lock").write_text("free")
    except BlockingIOError:
        (out.parent / "lock").write_text("held")
"""


def test_nothing_else_writes_to_the_results_while_they_are_measured(tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "conftest.py").write_text(TRIES_THE_LOCK)
    monkeypatch.setattr(fig_throughput, "BENCHMARKS", tmp_path / "benchmarks")
    options = Options(preset=preset("smoke"), out=tmp_path / "out")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # of the pytest that runs this test
    with pytest.raises(UserError, match="pytest's status 5"):  # no benchmarks there
        fig_throughput.measure(options)
    assert (tmp_path / "out" / "lock").read_text() == "held"
    with locked(tmp_path / "out"), pytest.raises(UserError) as raised:
        fig_throughput.measure(options)
    assert str(raised.value) == (
        f"another sweep is running in {tmp_path / 'out'}; wait for it or choose another --out"
    )


TELLS_ITS_GPUS = """
import os, pathlib
out = pathlib.Path(os.environ["ASYNC_RLHF_BENCH_OUT"])
(out.parent / "gpus").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
"""


@pytest.mark.parametrize(("gpus", "seen"), [(1, A), (4, f"{A},{B}")])
def test_benchmarks_have_two_gpus_where_there_are_two(tmp_path, monkeypatch, gpus, seen):
    fake_driver.install(tmp_path, monkeypatch, fake_driver.listing(gpus))
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "conftest.py").write_text(TELLS_ITS_GPUS)
    monkeypatch.setattr(fig_throughput, "BENCHMARKS", tmp_path / "benchmarks")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # of the pytest that runs this test
    with pytest.raises(UserError, match="pytest's status 5"):  # no benchmarks there
        fig_throughput.measure(Options(preset=preset("smoke"), out=tmp_path / "out"))
    assert (tmp_path / "out" / "gpus").read_text() == seen


def run(*arguments):
    script = ROOT / "reproductions" / "fig_throughput.py"
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_the_script_replots_in_a_process_of_its_own(tmp_path):
    write(tmp_path)
    done = run("--replot", "--out", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "figures" / "fig_throughput.svg").exists()
    assert not (tmp_path / "runs").exists()
