"""Predictions against runs: those recorded, and free-running ones made here."""

import time
from statistics import mean

import pandas as pd
import pytest

from bench import paths
from bench.errors import UserError
from bench.planning import validation
from bench.planning.simulation import Work, overlapped
from bench.randomness import PromptStream
from bench.sources import OverlappedSource
from bench.sources.handoff import Handoff
from bench.sources.host import EngineHost
from bench.staleness import bounded
from bench.types import Prompt, Sampling

from .. import fakes
from ..hosts import EXECUTION, TagEngine, ThreadWorker, snapshot

TINY = paths.record_dir("tiny")
RUNS = (  # generation and training in ms: the engine, the learner, or neither waits
    (60, 20),
    (20, 60),
    (40, 44),
)


@pytest.fixture(scope="module")
def errors():
    return validation.errors(TINY)


def test_every_recorded_timed_run_is_simulated_within_3_percent(errors):
    assert len(errors) == 30  # three arms, two sizes, five seeds
    assert errors["own_%"].abs().median() < 1
    assert errors["own_%"].abs().max() < 3
    assert (errors["stale_error"] == 0).all()


def test_overlapped_runs_are_predicted_from_other_seeds_as_aimed_for(errors):
    others = errors.loc[errors["arm"] == "overlapped", "others_%"].abs() / 100
    assert len(others) == 10
    assert others.median() < validation.AIM_MEDIAN
    assert others.max() < validation.AIM_EACH


def test_runs_that_take_turns_differ_as_the_machine_drifted(errors):
    # Runs of one arm and size differ by this much among themselves: no prediction can be nearer.
    turns = errors[errors["arm"] != "overlapped"]
    spread = turns.groupby(["model", "arm"])["update_ms"].agg(lambda ms: ms.max() / ms.median() - 1)
    assert 0.09 < spread.max() < 0.16
    assert turns["others_%"].abs().max() < 16


def test_the_command_prints_the_errors_and_says_what_is_met(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert validation.main([]) == 0
    said = capsys.readouterr().out
    assert "Fed with a run's own durations: 30 runs, median 0.3%, largest 2.2%" in said
    assert "From other seeds, overlapped: 10 runs, median 2.2%, largest 5.7%" in said
    assert "mean staleness of engines that never stop" in said
    assert said.count(": met.") == 2
    assert said.count(": not met.") == 2


def test_a_directory_without_such_runs_is_said(tmp_path):
    fakes.write(tmp_path, fakes.config())
    with pytest.raises(UserError, match="has no timed run, and none with an engine of its own"):
        validation.errors(tmp_path)


def made(bound, generate_ms, train_ms, updates=24):
    """Run freely, with an engine and a learner that only take time; return what was measured."""

    class Sleeper(TagEngine):
        def generate(self, prompts, sampling, seeds):
            time.sleep(generate_ms / 1e3)
            return super().generate(prompts, sampling, seeds)

    source = OverlappedSource(
        lambda directory: ThreadWorker(EngineHost(Sleeper, directory)),
        Handoff(),
        bounded(bound),
        PromptStream([Prompt(i, (i,)) for i in range(updates)], 1, seed=0),
        Sampling(1.0, 3, 1),
        seed=0,
        batches=updates,
        execution=EXECUTION,
    )
    versions, train_s, publish_s = [], [], []
    start = time.perf_counter()
    try:
        source.publish(snapshot(0))
        for step in range(updates):
            versions.append(source.next().policy_version)
            got = time.perf_counter()
            time.sleep(train_ms / 1e3)
            trained = time.perf_counter()
            if source.wants(step + 1):
                source.publish(snapshot(step + 1))
            train_s.append(trained - got)
            publish_s.append(time.perf_counter() - trained)
        update_s = (time.perf_counter() - start) / updates
    finally:
        source.close()
    spans = pd.DataFrame([(s.name, s.step, s.end_s - s.start_s) for s in source.spans])
    spans = spans.set_index([0, 1])[2]
    work = [
        Work(
            generate_s=spans["generate", i],
            load_s=spans["load"].get(i, 0.0),
            train_s=train_s[i],
            publish_s=publish_s[i],
        )
        for i in range(updates)
    ]
    return work, [i - version for i, version in enumerate(versions)], update_s


@pytest.mark.parametrize(("generate_ms", "train_ms"), RUNS)
@pytest.mark.parametrize("bound", [1, 3])
def test_a_free_running_source_is_simulated(bound, generate_ms, train_ms):
    work, staleness, update_s = made(bound, generate_ms, train_ms)
    line = overlapped(bounded(bound), work)
    assert line.update_s == pytest.approx(update_s, rel=0.15)
    # which weights are the newest is decided within a millisecond where both take as long
    tolerance = 0.25 if generate_ms != 40 else 1.0
    assert line.staleness_mean == pytest.approx(mean(staleness), abs=tolerance)
    assert max(line.staleness) <= bound
