import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.errors import UserError
from bench.records import store
from bench.records.compact import incomplete
from bench.records.merge import merge
from bench.records.schemas import SCHEMAS, in_order
from tests.bench import fakes


def test_write_run_stores_every_table_under_the_run_id(tmp_path):
    run = fakes.config(n=2, seed=3)
    run_id = fakes.write(tmp_path, run)
    assert run_id == run.run_id("0123456789ab")
    assert run_id.endswith("-s3")
    row = store.read(tmp_path, "runs").iloc[0]
    assert (row["schedule"], row["schedule_kind"], row["n"]) == ("reuse(2)", "reuse", 2)
    assert (row["status"], row["seed"], row["schema_version"]) == ("completed", 3, 2)
    assert row["git_revision"] == "f" * 40
    steps = store.read(tmp_path, "steps")
    assert steps["staleness"].tolist() == [0, 1, 0, 1]  # reuse(2): i - i // 2 * 2
    assert steps["metrics"][1] == {"clip_fraction": fakes.number((run.config_hash(), 3), "c", 1)}
    assert store.read(tmp_path, "evals")["step"].tolist() == [0, 2, 4]
    assert store.read(tmp_path, "samples")["completion"].tolist() == ["a completion"]
    outcomes = store.read(tmp_path, "outcomes").drop(columns="run_id")
    assert outcomes.to_dict("records") == [asdict(one) for one in fakes.result(run).outcomes]
    assert len(outcomes) == 16


def test_write_run_keeps_what_a_diverged_run_measured(tmp_path):
    fakes.write(tmp_path, fakes.config(), "diverged")
    row = store.read(tmp_path, "runs").iloc[0]
    assert (row["status"], row["diverged_at"]) == ("diverged", 2)


def test_write_run_writes_the_runs_row_last(tmp_path):
    # A folder where the samples file should be: steps and evals are written, then it fails.
    run = fakes.config()
    (tmp_path / "samples" / f"{run.run_id('0123456789ab')}.parquet").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot write"):
        fakes.write(tmp_path, run)
    assert not store.has_runs(tmp_path)
    assert len(list((tmp_path / "steps").iterdir())) == 1


def test_write_table_refuses_a_row_of_another_shape(tmp_path):
    with pytest.raises(pa.ArrowInvalid):
        store.write_table(tmp_path / "evals" / "a.parquet", "evals", [{"step": "four"}])


def test_write_reports_a_full_disk_and_leaves_nothing(tmp_path):
    # /dev/full answers every write with ENOSPC; the temporary file is made to lead there.
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / ".a.parquet.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError) as raised:
        store.write_table(tmp_path / "runs" / "a.parquet", "runs", [])
    assert str(raised.value) == (
        f"no space left to write {tmp_path}/runs/a.parquet; finished runs are safe, "
        "free some space and give the same command again"
    )
    assert list((tmp_path / "runs").iterdir()) == []


def test_read_orders_by_run_id_and_leaves_out_runs_without_a_runs_row(tmp_path):
    ids = [fakes.write(tmp_path, fakes.config(seed=seed)) for seed in (2, 0, 1)]
    (tmp_path / "runs" / f"{ids[1]}.parquet").unlink()
    assert store.read(tmp_path, "runs")["seed"].tolist() == [1, 2]
    assert store.read(tmp_path, "evals")["run_id"].unique().tolist() == sorted([ids[2], ids[0]])
    assert store.read(tmp_path, "evals", [ids[0], "unknown"])["run_id"].unique() == [ids[0]]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def corrupt(path: Path) -> None:
    """Flip one byte of the first page; the footer stays intact."""
    data = bytearray(path.read_bytes())
    data[40] ^= 0xFF
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def without_column(path: Path) -> None:
    table = pq.ParquetFile(path).read()
    pq.write_table(table.drop_columns(["win_rate"]), path)


def other_type(path: Path) -> None:
    """Replace a column of floats by their texts, which a cast would read."""
    table = pq.ParquetFile(path).read()
    index = table.schema.get_field_index("win_rate")
    texts = pa.array([str(value) for value in table["win_rate"].to_pylist()])
    pq.write_table(table.set_column(index, "win_rate", texts), path)


def undecodable(path: Path) -> None:
    """Replace the ``run_id`` by bytes that are not UTF-8."""
    table = pq.ParquetFile(path).read()
    offsets = pa.array(range(0, 2 * len(table) + 1, 2), pa.int32())
    content = pa.py_buffer(b"\xff\xfe" * len(table))
    column = pa.Array.from_buffers(pa.string(), len(table), [None, offsets.buffers()[1], content])
    pq.write_table(table.set_column(0, "run_id", column), path)


def other_version(path: Path) -> None:
    table = pq.ParquetFile(path).read()
    pq.write_table(table.replace_schema_metadata({b"schema_version": b"0"}), path)


@pytest.mark.parametrize(
    "damage", [truncate, corrupt, empty, without_column, other_type, undecodable]
)
def test_a_damaged_run_is_named_by_read_and_repeated_by_a_sweep(tmp_path, damage):
    run_id = fakes.write(tmp_path, fakes.config())
    path = tmp_path / "evals" / f"{run_id}.parquet"
    damage(path)
    with pytest.raises(UserError) as raised:
        store.read(tmp_path, "evals")
    assert str(raised.value) == (
        f"{path} is a truncated or damaged Parquet file: delete it and the run is repeated"
    )
    assert incomplete(tmp_path, [run_id]) == (
        [run_id],
        [f"{path} is missing or damaged: its run is repeated"],
    )


def test_columns_are_found_by_name(tmp_path):
    run_id = fakes.write(tmp_path, fakes.config())
    path = tmp_path / "evals" / f"{run_id}.parquet"
    before = store.load(path, "evals")
    store.write_arrow(path, before.select(before.column_names[::-1]))
    assert store.load(path, "evals").equals(before)


def test_a_run_from_before_outcomes_were_stored_has_none(tmp_path):
    run_id = fakes.write(tmp_path, fakes.config())
    fakes.make_older(tmp_path, run_id)
    found = store.read(tmp_path, "outcomes")
    assert found.empty
    assert found.columns.tolist() == [
        "run_id", "prompt_id", "outcome", "completion_tokens", "reference_tokens",
    ]  # fmt: skip
    assert incomplete(tmp_path, [run_id]) == ([], [])
    merge(tmp_path, tmp_path / "record")
    assert store.read(tmp_path / "record", "outcomes").empty


def test_outcomes_that_are_gone_are_missed_and_the_run_repeated(tmp_path):
    run_id = fakes.write(tmp_path, fakes.config())
    path = tmp_path / "outcomes" / f"{run_id}.parquet"
    path.unlink()
    with pytest.raises(UserError, match=f"{path} is missing although its run is recorded"):
        store.read(tmp_path, "outcomes")
    assert incomplete(tmp_path, [run_id])[0] == [run_id]


def test_damaged_outcomes_are_named_by_read_and_the_run_repeated(tmp_path):
    run_id = fakes.write(tmp_path, fakes.config())
    path = tmp_path / "outcomes" / f"{run_id}.parquet"
    truncate(path)
    with pytest.raises(UserError, match="is a truncated or damaged Parquet file: delete it and"):
        store.read(tmp_path, "outcomes")
    warning = f"{path} is missing or damaged: its run is repeated"
    assert incomplete(tmp_path, [run_id]) == ([run_id], [warning])


def test_outcomes_of_600_runs_take_less_than_a_megabyte(tmp_path):
    # Words and 64-bit whole numbers take what int8 and int16 would: Parquet numbers the different
    # values of a column first.
    rng = np.random.default_rng(0)
    references = rng.integers(4, 20, 512)
    rows = {
        run_id: pa.table(
            {
                "run_id": [run_id] * 512,
                "prompt_id": range(2_000_000_000, 2_000_000_512),
                "outcome": rng.choice(["win", "tie", "loss"], 512, p=[0.6, 0.1, 0.3]),
                "completion_tokens": np.clip(rng.normal(10, 4, 512), 1, 20).astype(int),
                "reference_tokens": references,
            },
            SCHEMAS["outcomes"],
        )
        for run_id in (f"{i:012x}-s0" for i in range(600))
    }
    store.write_arrow(tmp_path / "all.parquet", in_order(rows, SCHEMAS["outcomes"]))
    store.write_arrow(tmp_path / "one.parquet", rows[min(rows)])
    assert (tmp_path / "all.parquet").stat().st_size < 1_000_000
    assert (tmp_path / "one.parquet").stat().st_size < 5_000


def test_a_damaged_record_is_to_be_restored(tmp_path):
    fakes.write(tmp_path / "a", fakes.config())
    merge(tmp_path / "a", tmp_path / "record")
    truncate(tmp_path / "record" / "runs.parquet")
    with pytest.raises(UserError, match="damaged Parquet file: restore it from version control"):
        store.read(tmp_path / "record", "runs")


def test_another_schema_version_stops_reading_and_sweeping(tmp_path):
    run_id = fakes.write(tmp_path, fakes.config())
    path = tmp_path / "runs" / f"{run_id}.parquet"
    other_version(path)
    message = (
        f"{path} was written by schema version 0, this suite reads version 2: "
        "move it away, or rebuild the results with --fresh"
    )
    for stopped in (
        lambda: store.read(tmp_path, "runs"),
        lambda: incomplete(tmp_path, [run_id]),
    ):
        with pytest.raises(UserError) as raised:
            stopped()
        assert str(raised.value) == message


def test_incomplete_lists_what_was_never_done(tmp_path):
    run_id = fakes.write(tmp_path, fakes.config())
    assert incomplete(tmp_path, [run_id, "other"]) == (["other"], [])


def test_check_writable_refuses_a_directory_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as raised:
        store.check_writable(tmp_path / "file" / "results")
    assert str(raised.value) == (
        f"results directory {tmp_path}/file/results is not writable: Not a directory; "
        "choose another with --out"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_check_writable_refuses_a_read_only_directory(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="is not writable: Permission denied"):
        store.check_writable(tmp_path)


def test_read_says_where_there_are_no_results(tmp_path):
    with pytest.raises(UserError) as raised:
        store.read(tmp_path, "runs")
    assert str(raised.value) == f"no results in {tmp_path}: neither runs/ nor runs.parquet"
