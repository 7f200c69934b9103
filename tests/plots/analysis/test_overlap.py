import json

import pytest

from plots.analysis import estimands, overlap, speed
from plots.analysis.frames import Record
from plots.drawing import trace
from tests.plots import simulated, timed


@pytest.fixture
def record():
    return Record.of(*timed.tables())


def test_updates_leave_out_the_first_and_those_after_an_evaluation(record):
    split = record.updates[(record.updates["timed"] == "split") & (record.updates["seed"] == 0)]
    assert split["step"].tolist() == [1, 2, 3, 5, 6, 7]
    assert split["update_s"].tolist() == pytest.approx([0.140] * 6)  # 62 + 20 + 50 + 8 ms


def test_gains_are_those_of_the_formula(record):
    gains = overlap.gains(overlap.arms(record, "online_dpo", "0.1m"))
    # seed 0: sync = 140, g = 60, t = 70, rest = 10; ideal = max(60, 70) + 10 = 80; async = 90
    first = gains.loc[0]
    assert first["speed_up"] == pytest.approx(140 / 90)
    assert first["ideal"] == pytest.approx(140 / 80)
    assert first["time_saved"] == pytest.approx(50 / 140)
    assert first["efficiency"] == pytest.approx((140 - 90) / (140 - 80))
    assert first["speed_up_whole"] == pytest.approx(110 / 90)
    # seed 2 waits 2 ms longer in every arm, all of it generation: 142, 80, 92
    assert gains.loc[2, "efficiency"] == pytest.approx((142 - 92) / (142 - 80))


def test_losses_add_up_to_the_distance_from_the_ideal(record):
    table = overlap.arms(record, "online_dpo", "0.1m")
    losses = overlap.losses(table).loc[0] * 1e3
    # 77 - 70 slower; waits 3 ms where the ideal waits max(60 - 70, 0) = 0; 90 - 80 - 7 - 3 = 0
    assert losses.tolist() == pytest.approx([7, 3, 0], abs=1e-9)
    gains = overlap.gains(table)
    distance = gains["overlapped_s"] - gains["ideal_s"]
    assert overlap.losses(table).sum(axis=1).tolist() == pytest.approx(distance.tolist())


def test_a_seed_without_all_arms_does_not_count():
    runs, evals, steps, spans = timed.tables()
    keep = runs["run_id"] != "0.1m-whole-s1"
    record = Record.of(runs[keep], evals, steps, spans)
    assert overlap.arms(record, "online_dpo", "0.1m").index.tolist() == [0, 2]
    only = record.where(timed="split")
    assert overlap.arms(only, "online_dpo", "0.1m").empty


def test_busy_shares_of_a_window(record):
    spans = record.spans[record.spans["run_id"] == "0.1m-split-s0"]
    found = overlap.busy(spans, 5, 6).set_index("process")
    # 280 ms: the learner works 2 x 78, the engine 2 x 60
    assert found.loc["learner", "busy"] == pytest.approx(156 / 280)
    assert found.loc["engine", "busy"] == pytest.approx(120 / 280)
    assert found.loc["learner", "bubble_s"] == pytest.approx(0.062)
    assert found["update_s"].tolist() == pytest.approx([0.140, 0.140])


def test_sizes_are_in_order_of_parameters():
    record = Record.of(*timed.tables(models=("2.8b", "410m", "1b")))
    assert overlap.sizes(record) == ["410m", "1b", "2.8b"]


def test_estimands_of_timed_runs():
    record = Record.of(*timed.tables(win_rates={"overlapped": 0.893}, models=("0.1m", "2m")))
    functions = (
        estimands.overlapped_minus_split, speed.speed_up, speed.speed_up_per_size,
        speed.short_of_ideal,
    )  # fmt: skip
    by_name = {f.__name__: f(record, ["online_dpo"], [1]) for f in functions}
    assert {found.seeds for found in by_name.values()} == {(0, 1, 2)}
    both = by_name["overlapped_minus_split"]
    assert both.values.tolist() == pytest.approx([-0.007] * 3)
    # Overlapped and split of two sizes; seeds are .000, .001 and .002 higher.
    assert sorted(both.levels) == pytest.approx([0.894, 0.894, 0.901, 0.901])
    # of 2m, twice 0.1m: seed 1 has 280 + 1 over 180 + 1
    assert by_name["speed_up"].values[1] == pytest.approx(281 / 181 - 1)
    assert by_name["speed_up_per_size"].values[1] == pytest.approx(281 / 181 - 141 / 91)
    assert by_name["short_of_ideal"].values[0] == pytest.approx(1 - 100 / 120)
    assert by_name["short_of_ideal"].note == (
        "lost per update: slower +14 ms, waiting +7 ms, hand-off +0 ms"
    )


def test_estimands_of_timed_runs_without_any_are_empty():
    record = Record.of(*simulated.tables(seeds=2))
    for f in (speed.speed_up, speed.speed_up_per_size, speed.short_of_ideal):
        assert len(f(record, ["online_dpo"], [1]).values) == 0


def test_win_rates_by_n_take_the_split_arm(record):
    table = record.by_n("online_dpo", [1])
    assert table[1].tolist() == pytest.approx([0.9, 0.901, 0.902])


def test_chrome_trace_is_in_microseconds_from_the_first_span(record, tmp_path):
    spans = record.spans[record.spans["run_id"] == "0.1m-split-s0"]
    path = trace.write(spans, tmp_path / "a" / "run.trace.json")
    events = json.loads(path.read_text())["traceEvents"]
    assert events[:2] == [
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": 0, "args": {"name": "engine"}},
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": 1, "args": {"name": "learner"}},
    ]
    learn = next(e for e in events if e["name"] == "learn" and e["args"]["step"] == 1)
    # evaluation begins at 90 s, update 0 at 100 s: 1000 + 20 + 50 + 8 ms; then 62 + 20 ms
    assert learn["ts"] == pytest.approx(10e6 + 1078e3 + 82e3)
    assert learn["dur"] == pytest.approx(50e3)
    assert learn["tid"] == 1
