"""The columns of the tables, derived from the dataclasses whose instances are their rows.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc

from bench.types import EvalRecord, Outcome, Sample, Span, StepRecord

# Columns that came later. A file without one is read as one of nulls.
DIAGNOSTICS = tuple(field.name for field in fields(StepRecord) if field.default is None)
LATER = ("sft_digest", *DIAGNOSTICS)
SCALARS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One finished run: what it was, how it ended and where it was made (table ``runs``)."""

    config_hash: str
    config_json: str
    preset: str
    task: str
    model: str
    algorithm: str
    schedule: str
    schedule_kind: str
    n: int
    lr_schedule: str
    old_logprobs: str
    learning_rate: float
    updates: int
    split: str
    engine: str
    source: str  # inline | overlapped
    timed: str | None  # split | whole | overlapped; null unless alone on the machine
    seed: int
    status: str  # completed | diverged
    diverged_at: int | None  # null unless diverged
    wall_s: float
    weights_digest: str  # of SFT and reward model
    sft_digest: str | None  # of the SFT model alone; null in files that lack the column
    # provenance
    started_utc: str
    git_revision: str
    git_dirty: bool
    python: str
    torch: str | None
    transformers: str | None
    trl: str | None
    host_cpu: str
    cores: int | None
    threads: int
    device: str
    constraints_hash: str | None
    schema_version: int


def schema_of(row_type: type) -> pa.Schema:
    """Return the schema of a table: ``run_id``, then the fields of a dataclass in their order.

    A field is a str, an int, a float, a bool, one of these or None, or a ``Mapping`` of them.

    Raises:
        KeyError: a field is of another type.
    """
    hints = get_type_hints(row_type)
    columns = [(field.name, _arrow_type(hints[field.name])) for field in fields(row_type)]
    return pa.schema([("run_id", pa.string()), *columns])


def _arrow_type(hint: Any) -> pa.DataType:
    if get_origin(hint) is UnionType:
        (hint,) = (one for one in get_args(hint) if one is not NoneType)
    if get_origin(hint) is Mapping:
        key, value = get_args(hint)
        return pa.map_(SCALARS[key], SCALARS[value])
    return SCALARS[hint]


SCHEMAS = {
    "runs": schema_of(RunRow),
    "steps": schema_of(StepRecord),
    "evals": schema_of(EvalRecord),
    "samples": schema_of(Sample),
    "outcomes": schema_of(Outcome),
    "spans": schema_of(Span),
}
# Tables that came later, with column ``sft_digest`` of ``runs``: of runs from before them a missing
# file is an empty table.
OPTIONAL = ("outcomes",)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns of a schema, in its order; of ``LATER`` those that are missing are null.

    Raises:
        ValueError: a column is missing or of another type, or a string is not UTF-8.
    """
    for name in set(LATER).intersection(schema.names).difference(table.schema.names):
        field = schema.field(name)
        table = table.append_column(field, pa.nulls(len(table), field.type))
    try:
        found = table.select(schema.names)
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    if not found.schema.equals(schema):
        raise ValueError("a column is of another type")
    found.validate(full=True)
    return found.cast(schema)  # restores the field names inside a map


def by_run(table: pa.Table) -> dict[str, pa.Table]:
    """Return the rows of each ``run_id``, in their order."""
    if not len(table):
        return {}
    table = table.combine_chunks()  # a slice of many chunks is slow
    ids = table["run_id"]
    changes = pc.indices_nonzero(pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)))
    bounds = [0, *(at + 1 for at in changes.to_pylist()), len(ids)]
    names = ids.take(pa.array(bounds[:-1])).to_pylist()
    if len(set(names)) < len(names):
        return by_run(table.take(pc.sort_indices(ids)))  # which is stable
    slices = zip(names, bounds[:-1], bounds[1:], strict=True)
    return {name: table.slice(start, end - start) for name, start, end in slices}


def in_order(rows: Mapping[str, pa.Table], schema: pa.Schema) -> pa.Table:
    """Return the rows of all runs as one table, by ``run_id``."""
    parts = [schema.empty_table(), *(rows[run_id] for run_id in sorted(rows))]
    return pa.concat_tables(parts).combine_chunks()  # all that follows is slow on thousands
