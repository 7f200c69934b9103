"""Runs in one file per table: the same frames, whenever they are put there or it is interrupted."""

import shutil
import sys
from io import StringIO
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from bench.errors import UserError
from bench.experiments.sweep import sweep
from bench.records import compact as module
from bench.records import store
from bench.records.compact import compact, incomplete
from bench.records.marker import is_marked
from bench.records.schemas import SCHEMAS
from tests.bench import fakes
from tests.bench.records.test_store import corrupt, truncate

SEEDS = range(4)


@pytest.fixture
def _few(monkeypatch):
    """Let a single run be many."""
    monkeypatch.setattr(module, "MOST_SEPARATE", 0)


def write(place, seeds, revision="f"):
    """Write made-up runs, those of another revision with other numbers; return their ids."""
    ids = []
    for seed in seeds:
        run = fakes.config(seed=seed)
        made = fakes.result(run)
        made.samples = made.samples * (seed % 3)  # also of none
        made.wall_s = float(ord(revision))
        ids.append(
            store.write_run(
                place, run, made, preset="smoke", weights_digest="0123456789ab", sft_digest="ba98",
                provenance={**fakes.PROVENANCE, "git_revision": revision * 40},
            )
        )  # fmt: skip
    return ids


def frames(place, run_ids=None):
    return {table: store.read(place, table, run_ids) for table in SCHEMAS}


def assert_same(place, expected, run_ids=None):
    for table, frame in frames(place, run_ids).items():
        pd.testing.assert_frame_equal(frame, expected[table])


def files(place):
    return sorted(str(p.relative_to(place)) for p in place.rglob("*.parquet"))


ONE_FILE_PER_TABLE = [f"{table}.parquet" for table in sorted(SCHEMAS)]


@pytest.mark.usefixtures("_few")
def test_compacted_runs_are_read_as_before_and_count_as_done(tmp_path):
    ids = write(tmp_path, SEEDS)
    before, some = frames(tmp_path), frames(tmp_path, ids[1:3])
    compact(tmp_path)
    assert files(tmp_path) == ONE_FILE_PER_TABLE
    assert_same(tmp_path, before)
    assert_same(tmp_path, some, ids[1:3])
    assert incomplete(tmp_path, [*ids, "other"]) == (["other"], [])
    assert store.has_runs(tmp_path)
    assert is_marked(tmp_path)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.lists(st.sampled_from(SEEDS), unique=True), st.sampled_from("fe")),
             min_size=1, max_size=4)
)  # fmt: skip
@pytest.mark.usefixtures("_few")
def test_when_runs_are_compacted_makes_no_difference(tmp_path_factory, batches):
    plain, compacted = (tmp_path_factory.mktemp(name) for name in ("plain", "compacted"))
    (plain / "runs").mkdir()
    for seeds, revision in batches:
        write(plain, seeds, revision)
        for table in SCHEMAS if seeds else ():
            (compacted / table).mkdir(exist_ok=True)
            for seed in seeds:
                (name,) = (p.name for p in (plain / table).glob(f"*-s{seed}.parquet"))
                shutil.copy(plain / table / name, compacted / table / name)
        before = files(compacted)
        compact(compacted)
        assert files(compacted) == (ONE_FILE_PER_TABLE if before else [])
        if before:
            assert_same(compacted, frames(plain))


def test_a_few_runs_keep_files_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_SEPARATE", 2)
    write(tmp_path, (0, 1))
    compact(tmp_path)
    assert len(files(tmp_path)) == 12
    write(tmp_path, (2,))
    compact(tmp_path)
    assert files(tmp_path) == ONE_FILE_PER_TABLE


class Killed(BaseException):
    """Nothing that the code handles."""


class Interruption:
    """Ends the process's renaming or deletion of a file, the ``at``-th from now."""

    def __init__(self):
        self.at = None
        sys.addaudithook(self)

    def __call__(self, event, arguments):  # noqa: ARG002
        if self.at is not None and event in ("os.rename", "os.remove"):
            self.at -= 1
            if self.at < 0:
                self.at = None
                raise Killed


INTERRUPTION = Interruption()  # a hook cannot be removed


@pytest.mark.usefixtures("_few")
def test_interrupted_anywhere_no_run_is_lost_or_there_twice(tmp_path):
    write(tmp_path / "first", (0, 1))
    compact(tmp_path / "first")
    ids = write(tmp_path / "first", (1, 2), revision="e")  # one of them anew
    expected = frames(tmp_path / "first")
    assert expected["runs"]["git_revision"].str[0].tolist().count("e") == 2
    for at in range(100):
        place = tmp_path / str(at)
        shutil.copytree(tmp_path / "first", place)
        INTERRUPTION.at = at
        try:
            compact(place)
            done = True
        except Killed:
            done = False
        INTERRUPTION.at = None
        assert_same(place, expected)
        assert incomplete(place, ids) == ([], [])
        compact(place)
        write(place, (3,))
        compact(place)
        assert files(place) == ONE_FILE_PER_TABLE
        assert len(store.read(place, "runs")) == 4
        if done:
            break
    assert at == 6 + 12  # files written and deleted


@pytest.mark.usefixtures("_few")
def test_runs_without_outcomes_are_compacted_beside_those_that_have_them(tmp_path):
    old, new = write(tmp_path, (0, 1))
    fakes.make_older(tmp_path, old)
    before = frames(tmp_path)
    assert set(before["outcomes"]["run_id"]) == {new}
    compact(tmp_path)
    assert files(tmp_path) == ONE_FILE_PER_TABLE
    assert_same(tmp_path, before)
    assert incomplete(tmp_path, [old, new]) == ([], [])


@pytest.mark.usefixtures("_few")
def test_a_full_disk_leaves_every_run(tmp_path):
    write(tmp_path, SEEDS)
    before = frames(tmp_path)
    (tmp_path / ".runs.parquet.tmp").symlink_to("/dev/full")  # answers with ENOSPC
    with pytest.raises(UserError, match="no space left to write"):
        compact(tmp_path)
    assert_same(tmp_path, before)


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize("table", SCHEMAS)
@pytest.mark.parametrize("damage", [truncate, corrupt, Path.unlink])
def test_a_damaged_file_of_many_runs_stops_a_sweep_and_loses_none(tmp_path, table, damage):
    ids = write(tmp_path, SEEDS)
    compact(tmp_path)
    write(tmp_path, (7,))
    path = tmp_path / f"{table}.parquet"
    damage(path)
    if damage is Path.unlink and table == "runs":
        assert incomplete(tmp_path, ids) == (ids, [])  # as the advice below says
        compact(tmp_path)
        assert store.read(tmp_path, "evals")["run_id"].str[-1].unique().tolist() == ["7"]
        return
    before = files(tmp_path)
    what = (
        "is missing although its run is recorded"
        if damage is Path.unlink
        else "is a truncated or damaged Parquet file"
    )
    for stopped in (
        lambda: incomplete(tmp_path, ids),
        lambda: compact(tmp_path),
        lambda: store.read(tmp_path, table),
    ):
        with pytest.raises(UserError) as raised:
            stopped()
        assert str(raised.value) == (
            f"{path} {what}: restore it from version control or a backup, or delete "
            f"{tmp_path}/runs.parquet and its runs are repeated"
        )
    assert files(tmp_path) == before


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize("has_checksum", [True, False])
def test_a_sweep_sees_damage_where_it_decodes_nothing(tmp_path, has_checksum):
    ids = write(tmp_path, SEEDS)
    compact(tmp_path)
    path = tmp_path / "steps.parquet"
    if not has_checksum:  # as files were before there was one
        steps = pq.ParquetFile(path).read().replace_schema_metadata({b"schema_version": b"2"})
        pq.write_table(steps, path, write_page_checksum=True)
    assert incomplete(tmp_path, ids) == ([], [])
    footer = pq.read_metadata(path)
    last = footer.row_group(0).column(footer.num_columns - 1)
    start = last.dictionary_page_offset or last.data_page_offset
    data = bytearray(path.read_bytes())
    data[start + last.total_compressed_size - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"steps\.parquet is a truncated or damaged Parquet file"):
        incomplete(tmp_path, ids)


@pytest.mark.usefixtures("_few")
def test_a_damaged_run_stays_and_is_repeated(tmp_path):
    ids = write(tmp_path, SEEDS)
    path = tmp_path / "steps" / f"{ids[0]}.parquet"
    truncate(path)
    compact(tmp_path)
    assert len(files(tmp_path)) == 6 + 6
    assert incomplete(tmp_path, ids) == (
        [ids[0]],
        [f"{path} is missing or damaged: its run is repeated"],
    )
    write(tmp_path, SEEDS[:1])
    compact(tmp_path)
    assert incomplete(tmp_path, ids) == ([], [])


@pytest.mark.usefixtures("_few")
def test_a_compacted_run_without_evaluations_is_repeated(tmp_path):
    ids = write(tmp_path, SEEDS)
    compact(tmp_path)
    evals = store.load(tmp_path / "evals.parquet", "evals")
    store.write_arrow(tmp_path / "evals.parquet", evals.slice(3))  # without those of one run
    (gone,) = set(ids) - set(evals.slice(3)["run_id"].to_pylist())
    assert incomplete(tmp_path, ids) == ([gone], [])


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize("table", ["steps", "outcomes"])
def test_what_a_sweep_compacts_while_it_is_read_is_not_missed(tmp_path, monkeypatch, table):
    write(tmp_path, SEEDS)
    before = frames(tmp_path)
    listed = store.separate

    def then_compacted(results_dir):
        found = listed(results_dir)
        monkeypatch.setattr(store, "separate", listed)
        compact(results_dir)
        return found

    monkeypatch.setattr(store, "separate", then_compacted)
    pd.testing.assert_frame_equal(store.read(tmp_path, table), before[table])
    assert files(tmp_path) == ONE_FILE_PER_TABLE


def test_a_sweep_compacts_as_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_SEPARATE", 3)

    def run(seeds):
        return sweep(
            [fakes.config(seed=seed) for seed in seeds],
            fakes.MODELS,
            results_dir=tmp_path,
            preset="smoke",
            workers=2,
            console=Console(file=StringIO()),
            execute=fakes.FakeExecute(tmp_path),
        )

    ids = run(range(9))
    assert len(store.separate(tmp_path)) == 1
    assert store.read(tmp_path, "runs")["run_id"].tolist() == sorted(ids)
    run(range(9))
    assert len(list((tmp_path / "executed").iterdir())) == 9
