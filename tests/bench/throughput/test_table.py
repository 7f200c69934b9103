import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.errors import UserError
from bench.records.checked import encode
from bench.records.store import write_arrow
from bench.throughput import table
from bench.throughput.table import Shape, Timing
from tests.bench.throughput import made

SHAPE = Shape(model="0.1m", rows=4, prompt_tokens=5, completion_tokens=10, algorithm="rloo")
# Sorted 1, 2, 4, 6, 7: median 4, quartiles 2 and 6.
OWN = Timing(series="learner", rounds_s=(6.0, 1.0, 7.0, 2.0, 4.0), tokens=40, completions=4)
OTHER = Timing(series="trl", rounds_s=(8.0, 8.0, 8.0), tokens=80, completions=4, target=1.5)
PROVENANCE = {"started_utc": "2024-01-02T03:04:05+00:00", "torch": "2", "threads": 1}


def rows(own=OWN, *others):
    return table.rows_of("learner_step", SHAPE, own, others)


def test_rates_are_work_over_the_median_round():
    (row,) = rows()
    assert (row["median_s"], row["min_s"], row["iqr_s"], row["rounds"]) == (4.0, 1.0, 4.0, 5)
    assert (row["tokens_per_s"], row["completions_per_s"], row["flops_per_s"]) == (10.0, 1.0, None)
    assert (row["ratio"], row["benchmark"], row["algorithm"]) == (None, "learner_step", "rloo")


def test_ratio_compares_completions_before_tokens():
    # Completions: 4 / 4 s to 4 / 8 s, so 2; tokens would give 40 / 4 s to 80 / 8 s, so 1.
    assert rows(OWN, OTHER)[1]["ratio"] == 2.0


def test_ratio_compares_operations_where_both_count_them():
    own = Timing(series="learner", rounds_s=(2.0, 2.0), completions=1, flops=6)
    square = Timing(series="matmul", rounds_s=(1.0, 1.0), flops=12)
    assert rows(own, square)[1]["ratio"] == 0.25  # 3 to 12 operations per second


def test_ratio_without_common_work_compares_rounds():
    quick, slow = (Timing(series="s", rounds_s=(t, t)) for t in (0.01, 1.0))
    assert rows(quick, slow)[1]["ratio"] == pytest.approx(100)


def test_ideal_row_has_the_share_of_the_possible_saving():
    # Taking turns 8 s, overlapped 6 s, ideal 5.5 s: 2 of 2.5 s are saved.
    own, split, ideal = (
        Timing(series=name, rounds_s=(time_s, time_s), completions=4)
        for name, time_s in (("overlapped", 6.0), ("split", 8.0), ("ideal", 5.5))
    )
    found = rows(own, split, ideal)
    assert [row["efficiency"] for row in found] == [None, None, 0.8]
    assert {row["own"] for row in found} == {"overlapped"}
    assert table.summary(found)[2].endswith(
        "0.917 times as fast, overlap efficiency 0.80, target 0.9: not met"
    )


def test_targets_are_listed_with_what_was_measured(tmp_path):
    table.write(tmp_path, made.session(), made.PROVENANCE)
    found = table.targets(table.read(tmp_path).to_dict("records"))
    assert found[found["model"] == "2m"].to_numpy().tolist() == [
        ["handoff", "2m", "hf", "hf", "ms at most", 16.0, 30.0, True],
        ["handoff", "2m", "hf", "vllm", "ms at most", 160.0, 150.0, False],
        # (200 - 160) of (200 - 150) ms are saved
        ["update_overlapped", "2m", "overlapped", "ideal", "overlap efficiency",
         pytest.approx(0.8), 0.9, False],
    ]  # fmt: skip
    ratio = found[found["quantity"] == "times as fast"].iloc[0]
    assert (ratio["measured"], ratio["target"], ratio["met"]) == (1.25, 1.5, False)
    # from rows that were never written, too: there, what is missing is None
    assert table.targets(made.session()).equals(found)


def test_latest_takes_each_benchmark_from_one_session(tmp_path):
    first, second, third = (
        {**PROVENANCE, "started_utc": f"2024-01-02T03:04:0{second}+00:00"} for second in (1, 2, 3)
    )
    table.write(tmp_path, made.generation("2m", 32) + made.handoff("2m"), first)
    table.write(tmp_path, made.generation("2m", 32), second)
    table.write(tmp_path, made.generation("2m", 32)[:2], third)  # an environment without vLLM
    found = table.latest(table.read(tmp_path))
    assert found[["benchmark", "series", "session"]].to_numpy().tolist() == [
        ["handoff", "hf", "20240102T030401"],
        ["handoff", "vllm", "20240102T030401"],
        ["generation", "hf", "20240102T030402"],
        ["generation", "transformers_generate", "20240102T030402"],
        ["generation", "vllm", "20240102T030402"],
    ]


def test_sessions_are_kept_apart_and_read_in_order(tmp_path):
    later = {**PROVENANCE, "started_utc": "2024-01-02T03:04:06+00:00"}
    table.write(tmp_path, rows(OWN, OTHER), later)
    for _ in range(2):
        table.write(tmp_path, rows(), PROVENANCE)
    found = table.read(tmp_path)
    sessions = ["20240102T030405", "20240102T030405_2", "20240102T030406", "20240102T030406"]
    assert found["session"].tolist() == sessions
    assert found["series"].tolist() == ["learner", "learner", "learner", "trl"]
    assert list(found["rounds_s"][0]) == list(OWN.rounds_s)
    assert found["target"].tolist()[3] == 1.5
    assert set(found["torch"]) == {"2"}


def test_read_refuses_nothing_damage_and_other_versions(tmp_path):
    with pytest.raises(UserError, match="no throughput in"):
        table.read(tmp_path)
    path = table.write(tmp_path, rows(), PROVENANCE)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(UserError, match="truncated or damaged"):
        table.read(tmp_path)
    path.write_bytes(whole)
    found = pq.read_table(path)
    pq.write_table(found.replace_schema_metadata({"schema_version": "0"}), path)
    with pytest.raises(UserError, match="schema version 0"):
        table.read(tmp_path)
    path.write_bytes(encode(found.drop_columns(["own"])))
    with pytest.raises(UserError, match="other columns"):
        table.read(tmp_path)


def test_summary_says_whether_targets_are_met():
    first, second = table.summary(rows(OWN, OTHER))
    assert "learner_step [0.1m rloo 4 rows]" in first
    assert first.endswith("10 tokens/s, 1 completions/s")
    assert second.endswith("2 times as fast, target 1.5: met")
    limited = Timing(series="hf", rounds_s=(0.05, 0.05), limit_s=0.03)
    assert table.summary(rows(limited))[0].endswith("limit 30 ms: not met")
    slow = Timing(series="slow", rounds_s=(9.0, 9.0), completions=4)
    assert table.summary(rows(slow, OTHER))[1].endswith("0.889 times as fast, target 1.5: not met")


def test_read_refuses_a_column_of_another_type(tmp_path):
    path = table.write(tmp_path, made.session(), made.PROVENANCE)
    schema = table.THROUGHPUT
    at = schema.get_field_index("rows")
    as_text = pq.read_table(path).cast(schema.set(at, pa.field("rows", pa.string())))
    write_arrow(path, as_text)
    with pytest.raises(UserError) as raised:
        table.read(tmp_path)
    assert str(raised.value) == (
        f"{path} has other columns than this suite's: a column is of another type; move it away"
    )
