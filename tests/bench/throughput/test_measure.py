from types import SimpleNamespace

from bench.throughput.measure import Meter, Series
from bench.throughput.table import Shape

SHAPE = Shape(model="0.1m", rows=4, prompt_tokens=5, completion_tokens=10)


class FakeBenchmark:
    """Runs as pytest-benchmark's fixture does; every round takes one second."""

    def __init__(self):
        self.extra_info = {}
        self.group = None
        self.stats = None

    def pedantic(self, target, setup, rounds, warmup_rounds):
        for _ in range(warmup_rounds + rounds):
            setup()
            target()
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=[1.0] * rounds))


def test_series_run_in_turn_and_warm_up_alike():
    order, rows, benchmark = [], [], FakeBenchmark()
    own, first, second = (
        Series(name=name, run=lambda name=name: order.append(name), completions=4)
        for name in ("own", "first", "second")
    )
    Meter(benchmark, rows)("update", SHAPE, own, first, second, rounds=3)
    assert order == ["first", "second", "own"] * 5  # two rounds of warm-up
    assert [(row["series"], row["rounds"]) for row in rows] == [
        ("own", 3),
        ("first", 3),
        ("second", 3),
    ]
    assert rows[0]["completions_per_s"] == 4.0
    assert benchmark.group == "update"
    assert benchmark.extra_info["rows"] == 4
    assert benchmark.extra_info["first"]["ratio"] == rows[1]["ratio"]


def test_parts_say_how_long_they_took_of_the_round_before():
    took, rows = iter([9.0, 9.0, 1.0, 2.0, 3.0]), []
    whole = Series(name="whole", run=lambda: None)
    part = Series(name="part", part_s=lambda: next(took))
    own = Series(name="own", run=lambda: None)
    Meter(FakeBenchmark(), rows)("update", SHAPE, own, whole, part, rounds=3)
    assert rows[2]["rounds_s"] == (1.0, 2.0, 3.0)


def test_warm_up_rounds_are_as_many_as_asked_for():
    order = []
    own = Series(name="own", run=lambda: order.append(1))
    Meter(FakeBenchmark(), [])("update", SHAPE, own, rounds=3, warmup_rounds=1)
    assert len(order) == 4


class Disabled(FakeBenchmark):
    """Runs as under ``--benchmark-disable``: once, without a clock."""

    def pedantic(self, target, **options):
        assert set(options) == {"setup", "rounds", "warmup_rounds"}
        target()


def test_nothing_is_recorded_where_nothing_is_timed():
    rows = []
    Meter(Disabled(), rows)("update", SHAPE, Series(name="own", run=lambda: None))
    assert rows == []
