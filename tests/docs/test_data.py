"""docs/data.md names every column that the tables have, and no other; its snippets run."""

import ast
import re
from dataclasses import fields
from types import NoneType
from typing import get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.experiments import choice
from bench.experiments.presets import preset
from bench.experiments.search import Score, Trial
from bench.paths import ROOT
from bench.records import store
from bench.records.schemas import SCHEMAS, RunRow
from bench.stages import CURVES
from bench.throughput.table import THROUGHPUT
from bench.types import EvalRecord, Outcome, Sample, Span, StepRecord

PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
RECORDED = ROOT / "results" / "reference"
ROWS = {"runs": RunRow, "steps": StepRecord, "evals": EvalRecord, "samples": Sample,
        "outcomes": Outcome, "spans": Span}  # fmt: skip


def said(table: str) -> dict[str, str]:
    """Return the types of a table's columns as the page says them, in its order."""
    _, _, after = PAGE.partition(f"\n### `{table}`\n")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|[^|]*\|$", after.split("\n#")[0], re.M)
    assert len(rows) == len(dict(rows))
    return dict(rows)


def without_null(columns: dict[str, str]) -> dict[str, str]:
    return {name: kind.removesuffix(", null") for name, kind in columns.items()}


def types(schema: pa.Schema) -> dict[str, str]:
    return {
        field.name: re.sub(r"\w+: ", "", str(field.type)).removeprefix("large_")
        for field in schema
    }  # fmt: skip


def test_the_page_has_a_section_for_each_table():
    sections = re.findall(r"^### `(\w+)`$", PAGE, re.M)
    assert sorted(sections) == sorted(
        [*SCHEMAS, "tuning", "throughput", "training_curves", "search"]
    )


@pytest.mark.parametrize("table", SCHEMAS)
def test_the_columns_of_a_runs_tables_are_those_of_the_schemas(table):
    assert list(without_null(said(table)).items()) == list(types(SCHEMAS[table]).items())
    hints = get_type_hints(ROWS[table])
    may_be_null = {f.name for f in fields(ROWS[table]) if NoneType in get_args(hints[f.name])}
    assert {name for name, kind in said(table).items() if kind.endswith(", null")} == may_be_null


@pytest.mark.parametrize(
    ("table", "schema"), [("throughput", THROUGHPUT), ("training_curves", CURVES)]
)
def test_the_columns_of_other_schemas(table, schema):
    assert list(without_null(said(table)).items()) == list(types(schema).items())


def test_the_columns_of_a_search_for_hyper_parameters():
    written = choice.table(preset("tiny"), {Trial("rloo", 1e-4, 0.1): [Score(0.5, 0.6)] * 2})
    found = types(pa.Schema.from_pandas(written, preserve_index=False))
    older = types(pq.read_schema(RECORDED / "tiny" / "tuning.parquet"))
    assert without_null(said("tuning")) == found | older


def test_the_columns_of_the_search_for_a_world():
    assert without_null(said("search")) == types(
        pq.read_schema(RECORDED / "worth" / "search.parquet")
    )


@pytest.mark.parametrize("table", [*SCHEMAS, "tuning", "search"])
@pytest.mark.parametrize("place", ["tiny", "worth"])
def test_what_is_not_said_to_be_null_is_not(place, table):
    path = RECORDED / place / f"{table}.parquet"
    if not path.exists():
        return
    recorded = pq.read_table(path)
    nulls = {name for name in recorded.column_names if recorded[name].null_count}
    assert nulls <= {name for name, kind in said(table).items() if kind.endswith(", null")}


def means():
    """Return the mean final win rates of the record by algorithm and schedule, from its rows."""
    last, found = {}, {}
    for row in store.read_arrow(RECORDED / "tiny", "evals").to_pylist():
        last[row["run_id"]] = max(last.get(row["run_id"], (-1,)), (row["step"], row["win_rate"]))
    for row in store.read_arrow(RECORDED / "tiny", "runs").to_pylist():
        found.setdefault((row["algorithm"], row["schedule"]), []).append(last[row["run_id"]][1])
    return {key: sum(values) / len(values) for key, values in found.items()}


@pytest.mark.parametrize(
    ("library", "result"),
    [
        ("pandas", lambda final: final.to_dict()),
        ("duckdb", lambda final: {(a, b): c for a, b, c in final.fetchall()}),
        ("polars", lambda final: {(a, b): c for a, b, c in final.rows()}),
    ],
)
def test_three_lines_give_the_mean_final_win_rates(library, result, monkeypatch):
    pytest.importorskip(library)
    (snippet,) = re.findall(rf"```python\n(import {library}.*?)```", PAGE, re.DOTALL)
    assert len(ast.parse(snippet).body) == 4  # three after the import
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    exec(snippet, names)
    assert result(names["final"]) == pytest.approx(means(), abs=1e-12)


def test_the_readme_leads_to_the_page():
    assert "(docs/data.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
