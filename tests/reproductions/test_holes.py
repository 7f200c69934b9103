"""Records with holes: every figure is drawn as far as it goes, or one line says why not."""

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plots.analysis.frames import Record
from plots.drawing import style
from reproductions import fig_schedule, fig_sync_vs_async, fig_throughput, show
from reproductions import run as script
from reproductions.all import discover
from tests.bench.throughput import made
from tests.plots import simulated, sized, timed

ALL = {one.name: one for one in discover()}
SIMULATED = simulated.tables(grid=(1, 4, 16), seeds=2)
TIMED = (*timed.tables(seeds=2, models=("0.1m", "0.4m")),)
SIZED = sized.tables(grid=(1, 4), seeds=2)
MEASURED = pd.DataFrame([{**row, **made.PROVENANCE, "session": "1"} for row in made.session()])
HOLES = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def shown(results, monkeypatch, capsys):
    """Return a function that shows a record; it must end in status 0 or in 2 and one line."""

    def laid_out(figure, stem):
        figure.draw_without_rendering()
        return (stem.with_suffix(".png"),)

    monkeypatch.setattr(style, "save", laid_out)

    def show_record(name, record, preset="tiny"):
        monkeypatch.setattr(show, "find_record", lambda *_: (results, record))
        status = script.main([ALL[name]], ["--replot", "--preset", preset])
        output, errors = capsys.readouterr()
        assert (status, errors) == (0, "") or (status == 2 and len(errors.splitlines()) == 1), (
            errors
        )
        return output

    return show_record


def completed(runs):
    """Add the columns that made-up runs lack."""
    extra = {"config_hash": runs["run_id"], "torch": "2.13", "weights_digest": "0123456789ab"}
    return runs.assign(**extra, tuned=True)


def record_of(tables):
    runs, *others = tables
    return Record.of(completed(runs), *others)


@st.composite
def holes(draw, tables):
    """Return tables without some runs, arms and rows, with diverged runs and missing numbers."""
    runs, evals, steps, *spans = tables
    ids = st.sets(st.sampled_from(sorted(runs["run_id"])))
    kept = draw(st.sets(st.sampled_from(sorted(runs["run_id"])), min_size=1))
    runs = runs[runs["run_id"].isin(kept)]
    diverged, unknown, unmeasured = draw(ids), draw(ids), draw(ids)
    runs.loc[runs["run_id"].isin(diverged), "status"] = "diverged"
    runs.loc[runs["run_id"].isin(unknown), ["host_cpu", "git_revision"]] = None
    evals, steps, *spans = (frame[frame["run_id"].isin(kept)] for frame in (evals, steps, *spans))
    column = draw(st.sampled_from(["win_rate", "kl_nats"]))
    evals.loc[evals["run_id"].isin(unmeasured), column] = float("nan")
    cut = draw(st.dictionaries(st.sampled_from(sorted(kept)), st.integers(1, 9)))
    for run_id, last in cut.items():
        evals, steps, *spans = (
            frame[(frame["run_id"] != run_id) | (frame["step"] < last)]
            for frame in (evals, steps, *spans)
        )
    return runs, evals, steps, *spans


@pytest.mark.parametrize(
    "name", ["fig_offpolicy_ppo", "fig_offpolicy_robustness", "ablation_lr_schedule"]
)
@HOLES
@given(tables=holes(SIMULATED))
def test_records_with_holes_are_shown(shown, name, tables):
    shown(name, record_of(tables))


@pytest.mark.parametrize("name", ["fig_scaling", "fig_overoptimisation"])
@HOLES
@given(tables=holes(SIZED))
def test_records_of_several_sizes_with_holes_are_shown(shown, name, tables):
    shown(name, record_of(tables), "worth")


@pytest.mark.parametrize("name", ["fig_schedule", "fig_sync_vs_async"])
@HOLES
@given(tables=holes(TIMED))
def test_timed_records_with_holes_are_shown(shown, name, tables):
    shown(name, record_of(tables))


@settings(HOLES, max_examples=15)
@given(kept=st.sets(st.sampled_from(range(len(MEASURED))), min_size=1))
def test_measurements_with_holes_are_shown(shown, kept):
    shown("fig_throughput", fig_throughput.record_of(MEASURED.iloc[sorted(kept)]))


def without(arm):
    runs, *others = TIMED
    gone = set(runs.loc[runs["timed"] == arm, "run_id"])
    return record_of([frame[~frame["run_id"].isin(gone)] for frame in (runs, *others)])


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize(("arm", "row"), [("split", 0), ("whole", 1), ("overlapped", 2)])
def test_a_missing_arm_is_named_in_its_place(shown, arm, row):
    record = without(arm)
    axes = fig_schedule.draw(record).axes
    assert [texts(ax) == ["not run"] for ax in axes] == [at == row for at in range(3)]
    _, middle, right = fig_sync_vs_async.draw(record).axes
    assert "not run" in texts(middle)
    assert "not run" in texts(right)
    assert "Too few of the grid's cells for its table." in shown("fig_sync_vs_async", record)
    assert f"fig_schedule_{arm}.trace.json" not in shown("fig_schedule", record)


def test_diverged_timed_runs_are_crosses_and_said():
    runs, evals, steps, spans = TIMED
    runs = runs.assign(status=runs["status"].where(runs["timed"] != "whole", "diverged"))
    gone = set(runs.loc[runs["timed"] == "whole", "run_id"])
    cut = [f[~f["run_id"].isin(gone) | (f["step"] < 2)] for f in (evals, steps, spans)]
    record = record_of([runs, *cut])
    assert texts(fig_schedule.draw(record).axes[1]) == ["diverged"]
    left, middle, _ = fig_sync_vs_async.draw(record).axes
    crosses = [line for line in middle.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [line.get_ydata().tolist() for line in crosses] == [[0.6, 0.6]]  # of SFT
    assert any(line.get_marker() == "x" and len(line.get_xdata()) for line in left.lines)


def test_one_diverged_seed_gives_way_to_the_next_in_the_schedule():
    runs, evals, steps, spans = TIMED
    first = "0.4m-split-s0"
    runs = runs.assign(status=runs["status"].where(runs["run_id"] != first, "diverged"))
    cut = [f[(f["run_id"] != first) | (f["step"] < 2)] for f in (evals, steps, spans)]
    assert "not run" not in texts(fig_schedule.draw(record_of([runs, *cut])).axes[0])
    assert len(fig_schedule.draw(record_of([runs, *cut])).axes[0].patches) > 0
