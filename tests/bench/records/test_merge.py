import pandas as pd

from bench.records import store
from bench.records.merge import main, merge
from bench.records.schemas import SCHEMAS
from tests.bench import fakes


def test_a_merged_record_of_one_file_per_table_reads_as_the_runs_do(tmp_path):
    ids = [fakes.write(tmp_path / "user", fakes.config(seed=seed)) for seed in (1, 0)]
    assert merge(tmp_path / "user", tmp_path / "record") == 2
    assert sorted(p.name for p in (tmp_path / "record").iterdir()) == [
        "evals.parquet", "outcomes.parquet", "runs.parquet", "samples.parquet", "spans.parquet",
        "steps.parquet",
    ]  # fmt: skip
    for table in SCHEMAS:
        pd.testing.assert_frame_equal(
            store.read(tmp_path / "record", table), store.read(tmp_path / "user", table)
        )
        pd.testing.assert_frame_equal(
            store.read(tmp_path / "record", table, ids[:1]),
            store.read(tmp_path / "user", table, ids[:1]),
        )


def test_merge_replaces_what_it_has_and_keeps_the_rest(tmp_path):
    fakes.write(tmp_path / "a", fakes.config(seed=0))
    fakes.write(tmp_path / "a", fakes.config(seed=1))
    fakes.write(tmp_path / "b", fakes.config(seed=1), git_revision="e" * 40)
    merge(tmp_path / "a", tmp_path / "record")
    assert merge(tmp_path / "b", tmp_path / "record") == 2
    runs = store.read(tmp_path / "record", "runs")
    assert runs["git_revision"].str[0].tolist() == ["f", "e"]
    assert len(store.read(tmp_path / "record", "evals")) == 6


def test_a_record_from_before_outcomes_were_stored_takes_runs_that_have_them(tmp_path):
    old = fakes.write(tmp_path / "a", fakes.config(seed=0))
    fakes.make_older(tmp_path / "a", old)
    merge(tmp_path / "a", tmp_path / "record")
    (tmp_path / "record" / "outcomes.parquet").unlink()
    assert store.read(tmp_path / "record", "outcomes").empty
    new = fakes.write(tmp_path / "b", fakes.config(seed=1))
    assert merge(tmp_path / "b", tmp_path / "record") == 2
    found = store.read(tmp_path / "record", "outcomes")
    assert found["run_id"].unique().tolist() == [new] != [old]
    pd.testing.assert_frame_equal(found, store.read(tmp_path / "b", "outcomes"))


def test_merge_refuses_runs_of_uncommitted_code(tmp_path, capsys):
    run_id = fakes.write(tmp_path / "a", fakes.config(), git_dirty=True)
    assert main([str(tmp_path / "a"), str(tmp_path / "record")]) == 2
    assert capsys.readouterr().err == (
        f"error: 1 of 1 runs in {tmp_path}/a were made with uncommitted code (first: "
        f"{run_id}); commit and repeat them, or give --allow-dirty\n"
    )
    assert not (tmp_path / "record").exists()
    assert main([str(tmp_path / "a"), str(tmp_path / "record"), "--allow-dirty"]) == 0
