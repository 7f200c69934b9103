from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.paths import record_dir
from bench.records import store
from bench.records.schemas import DIAGNOSTICS, LATER, SCHEMAS, conform, schema_of


def test_the_columns_of_steps_are_the_fields_of_a_step_record():
    expected = [
        ("run_id", "string"), ("step", "int64"), ("policy_version", "int64"),
        ("rollout_version", "int64"), ("staleness", "int64"), ("learning_rate", "double"),
        ("loss", "double"), ("grad_norm", "double"), ("reward_mean", "double"),
        ("finished_fraction", "double"), ("completion_tokens", "int64"),
        ("logprob_gap_mean", "double"), ("wait_s", "double"), ("generate_s", "double"),
        ("score_s", "double"), ("learn_s", "double"), ("publish_s", "double"),
        ("metrics", "map<string, double>"), ("ess_fraction", "double"),
        ("log_ratio_square_mean", "double"), ("log_ratio_max_nats", "double"),
        ("kl_k1_nats", "double"), ("kl_k3_nats", "double"), ("entropy_nats", "double"),
        ("length_mean_tokens", "double"), ("length_max_tokens", "double"),
        ("gradient_cosine", "double"), ("raised_fraction", "double"),
        ("clip_fraction_positive", "double"), ("clip_fraction_negative", "double"),
        ("mask_fraction_positive", "double"), ("mask_fraction_negative", "double"),
    ]  # fmt: skip
    assert [(field.name, str(field.type)) for field in SCHEMAS["steps"]] == expected


def test_the_columns_of_outcomes_are_the_fields_of_an_outcome():
    assert [(field.name, str(field.type)) for field in SCHEMAS["outcomes"]] == [
        ("run_id", "string"), ("prompt_id", "int64"), ("outcome", "string"),
        ("completion_tokens", "int64"), ("reference_tokens", "int64"),
    ]  # fmt: skip


def test_a_field_that_may_be_none_has_the_type_of_its_values():
    runs = SCHEMAS["runs"]
    names = ("timed", "diverged_at", "git_dirty", "cores")
    assert [str(runs.field(name).type) for name in names] == ["string", "int64", "bool", "int64"]


@pytest.mark.parametrize("table", ["runs", "steps", "evals", "samples", "spans"])
def test_the_schemas_are_those_of_the_recorded_files(table):
    recorded = pq.read_schema(record_dir("tiny") / f"{table}.parquet")
    fields = [field for field in SCHEMAS[table] if field.name not in LATER]
    assert recorded.equals(pa.schema(fields))


def test_a_column_that_came_later_is_null_where_a_file_lacks_it():
    runs = store.read(record_dir("tiny"), "runs", columns=["run_id", "sft_digest"])
    assert (len(runs), runs["sft_digest"].isna().all()) == (232, True)
    steps = store.read(record_dir("tiny"), "steps", columns=["run_id", *DIAGNOSTICS])
    assert steps[list(DIAGNOSTICS)].isna().all().all()
    with pytest.raises(ValueError, match="host_cpu"):  # another is missed
        conform(SCHEMAS["runs"].empty_table().drop_columns("host_cpu"), SCHEMAS["runs"])


def test_schema_of_refuses_a_type_that_has_no_column():
    @dataclass
    class Row:
        path: Path

    with pytest.raises(KeyError):
        schema_of(Row)
