"""Damaged results are repeated, named or harmless: never a traceback, never other numbers."""

import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.experiments.presets import preset
from bench.records import compact, store
from bench.records.schemas import SCHEMAS
from plots.drawing import style
from reproductions import run as script
from reproductions.all import discover
from reproductions.options import Options
from tests.bench import fakes
from tests.damage import DAMAGE, FLIPS, fuzz, refusal

DRAWN = [one for one in discover() if one.grid(Options(preset=preset("smoke")))]
TYPES = (pa.string(), pa.int32(), pa.float32(), pa.binary(), pa.bool_())


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return the results of all figures' runs."""
    results = tmp_path_factory.mktemp("sound") / "results"
    for one in DRAWN:
        for cell in one.grid(one.asked(Options(preset=preset("smoke")))):
            for seed in (0, 1):
                fakes.write(results, cell.with_seed(seed))
    return results


@pytest.fixture
def undrawn(monkeypatch):
    """Have figures laid out, but not written."""

    def laid_out(figure, stem):
        figure.draw_without_rendering()
        return (stem.with_suffix(".png"),)

    monkeypatch.setattr(style, "save", laid_out)


def _other_columns(what, at, kind):
    """Return what drops, renames, repeats, empties or retypes a column of a Parquet file."""

    def damage(path):
        table = pq.ParquetFile(path).read()
        name = table.column_names[int(at * table.num_columns)]
        index = table.schema.get_field_index(name)
        match what:
            case "drop":
                table = table.drop_columns([name])
            case "rename":
                names = [f"{one}_" if one == name else one for one in table.column_names]
                table = table.rename_columns(names)
            case "repeat":
                table = table.append_column(name, table[name])
            case "nulls":
                table = table.set_column(index, name, pa.nulls(len(table), table[name].type))
            case "retype":
                table = table.set_column(index, name, pa.nulls(len(table), kind))
            case "rows":
                table = table.slice(0, 0)
        store.write_arrow(path, table)

    return damage


COLUMNS = st.builds(
    _other_columns,
    st.sampled_from(["drop", "rename", "repeat", "nulls", "retype", "rows"]),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(TYPES),
)
BYTES = DAMAGE | FLIPS
PLACES = st.tuples(st.sampled_from(list(SCHEMAS)), st.integers(0, 10**6))


@pytest.fixture
def damaged(sound, tmp_path_factory):
    """Return a function that copies the results and damages one file."""
    made = []

    def copy(place, damage):
        table, number = place
        results = shutil.copytree(sound, tmp_path_factory.mktemp("damaged") / "results")
        made.append(results)
        files = sorted((results / table).iterdir())
        damage(files[number % len(files)])
        return results, files[number % len(files)]

    yield copy
    for results in made:
        shutil.rmtree(results)


@fuzz(60)
@given(place=PLACES, damage=BYTES)
def test_damaged_bytes_are_refused_or_change_nothing(sound, damaged, place, damage):
    results, path = damaged(place, damage)
    table, run_id = place[0], path.stem
    original = store.load(sound / table / path.name, table)
    missing, loaded = [], []
    stopped = refusal(lambda: missing.extend(compact.incomplete(results, [run_id])[0]))
    if refusal(lambda: loaded.append(store.load(path, table))) is None:
        assert (missing, stopped) == ([], None)
        assert loaded[0].equals(original, check_metadata=False)
    elif stopped is None:
        assert missing == [run_id]
    else:
        assert "was written by schema version" in stopped  # it is one digit of the file
    if refusal(lambda: loaded.append(store.read_arrow(results, table))) is None:
        rows = loaded[-1].filter(pc.equal(loaded[-1]["run_id"], run_id))
        assert len(rows) in (0, len(original))  # without its row in ``runs`` it is no run


@fuzz(40)
@given(place=PLACES, damage=COLUMNS)
def test_other_columns_stop_neither_a_sweep_nor_a_reader(damaged, place, damage):
    results, path = damaged(place, damage)
    missing = []
    assert refusal(lambda: missing.extend(compact.incomplete(results, [path.stem])[0])) is None
    if refusal(lambda: store.read(results, place[0])) is not None:
        assert missing == [path.stem]


@pytest.mark.parametrize("one", DRAWN, ids=lambda one: one.name)
@pytest.mark.usefixtures("undrawn")
@fuzz(8, thorough=80)
@given(place=PLACES, damage=BYTES | COLUMNS)
def test_a_figure_of_damaged_results_is_drawn_or_one_line(damaged, capsys, one, place, damage):
    results, _ = damaged(place, damage)
    status = script.main([one], ["--preset", "smoke", "--replot", "--out", str(results)])
    _, errors = capsys.readouterr()
    assert (status, len(errors.splitlines())) in ((0, 0), (2, 1)), errors
