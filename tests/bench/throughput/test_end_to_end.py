from types import SimpleNamespace

import pytest
import torch

from bench.config import Execution
from bench.throughput import bench_end_to_end
from bench.throughput.bench_end_to_end import Update
from bench.throughput.table import Shape

SHAPE = Shape(model="0.1m", rows=4, prompt_tokens=5, completion_tokens=10)


def rollouts(tokens):
    return SimpleNamespace(generate_s=3.0, completion_mask=torch.arange(48) < tokens)


@pytest.fixture
def update(monkeypatch):
    """Return an update whose parts write down when they run, on a clock that they move."""
    now, log = [0.0], []

    def takes(name, time_s, result=None):
        def run(*_):
            log.append(name)
            now[0] += time_s
            return result

        return run

    monkeypatch.setattr(bench_end_to_end, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    measured = SimpleNamespace(score_s=1.0, learn_s=4.0)
    source = SimpleNamespace(
        publish=takes("publish", 0.25), next=takes("next", 3.5, rollouts(tokens=40))
    )
    learner = SimpleNamespace(snapshot=takes("snapshot", 0.25), step=takes("step", 5.0, measured))
    return Update(source, learner, Execution(), SHAPE), log


def test_a_round_publishes_first_and_measures_its_parts(update):
    update, log = update
    series = update.series("inline", updates=2)
    series.run()
    assert log == ["snapshot", "publish", "next", "step"] * 2
    assert (series.tokens, series.completions) == (80, 8)
    assert (update.round_s, update.generate_s, update.train_s) == (18.0, 6.0, 10.0)
    assert update.rest_s == 2.0  # 18 - 6 - 10
    assert update.ideal_s == 12.0  # max(6, 10) + 2
    update(1)
    assert update.round_s == 9.0  # of the last round alone


def test_a_batch_of_another_size_is_noticed(update):
    update, _ = update
    update.source.next = lambda: rollouts(tokens=39)
    with pytest.raises(AssertionError):
        update()
