"""What stands among the runs and is none: named, not drawn, not counted."""

import shutil
from io import StringIO

import pytest
from rich.console import Console

from bench.errors import UserError
from bench.experiments.presets import preset
from bench.paths import record_dir
from bench.records import compact as module
from bench.records import foreign, store
from bench.records.compact import compact, incomplete
from bench.records.schemas import SCHEMAS
from reproductions.loading import load
from tests.bench import fakes
from tests.bench.experiments.test_sweep import run as sweep


def edit(path, **columns):
    """Change values of a run's row by hand."""
    rows = store.load(path, "runs").to_pylist()
    store.write_table(path, "runs", [{**row, **columns} for row in rows])


def changes(path):
    """Return edits, each of which makes a row another run's."""
    (row,) = store.load(path, "runs").to_pylist()
    return [
        {"config_json": row["config_json"].replace('"updates": 4', '"updates": 8')},
        {"config_json": "{"},
        {"config_json": None},
        {"seed": 5},
        {"weights_digest": "f" * 12},
        {"config_hash": "0" * 12},
    ]


def test_every_recorded_run_is_one():
    runs = store.read_arrow(record_dir("tiny"), "runs")
    assert (len(runs), len(foreign.own(runs))) == (232, 232)


@pytest.mark.parametrize("change", range(6))
def test_a_run_that_was_changed_is_left_out_and_repeated(tmp_path, change):
    kept, changed = (fakes.write(tmp_path, fakes.config(seed=seed)) for seed in (0, 1))
    path = tmp_path / "runs" / f"{changed}.parquet"
    edit(path, **changes(path)[change])
    runs, remarks = foreign.read_runs(tmp_path)
    assert runs["run_id"].tolist() == [kept]
    assert remarks == (
        f"Left out: 1 in {tmp_path}/runs that are no runs of this suite, or were changed: "
        f"{changed}",
    )
    assert incomplete(tmp_path, [kept, changed]) == (
        [changed],
        [f"{path} was changed by hand: its run is repeated"],
    )


def test_a_compacted_run_that_was_changed_is_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_SEPARATE", 0)
    ids = [fakes.write(tmp_path, fakes.config(seed=seed)) for seed in (0, 1)]
    compact(tmp_path)
    path = tmp_path / "runs.parquet"
    rows = store.load(path, "runs").to_pylist()
    rows[0]["weights_digest"] = "f" * 12
    store.write_table(path, "runs", rows)
    assert incomplete(tmp_path, ids)[0] == [rows[0]["run_id"]]


def test_files_of_other_names_are_named_and_not_used(tmp_path):
    sweep(tmp_path, [fakes.config()])
    (path,) = (tmp_path / "runs").iterdir()
    for name in ("copy of it", "b", "c", "d", "e"):
        shutil.copy(path, path.with_name(f"{name}.parquet"))
    record = load(tmp_path, [fakes.config()], preset("tiny"), all_seeds=True)
    line = (
        f"Left out: 5 in {tmp_path}/runs that are no runs of this suite, or were changed: "
        "b.parquet, c.parquet, copy of it.parquet, d.parquet and 1 more"
    )
    assert (len(record.final), record.remarks[0]) == (1, line)
    console = Console(file=StringIO(), width=40)
    sweep(tmp_path, [fakes.config()], console=console)
    assert console.file.getvalue().splitlines()[0] == f"warning: {line}"


def test_a_run_under_another_runs_name_is_refused(tmp_path):
    run_id = fakes.write(tmp_path, fakes.config())
    for table in SCHEMAS:
        other = tmp_path / table / f"{'0' * 12}-s0.parquet"
        shutil.copy(tmp_path / table / f"{run_id}.parquet", other)
    with pytest.raises(UserError) as raised:
        store.read(tmp_path, "evals")
    assert str(raised.value) == (
        f"{tmp_path}/evals/{'0' * 12}-s0.parquet has rows of another run: "
        "delete it and the run is repeated"
    )
