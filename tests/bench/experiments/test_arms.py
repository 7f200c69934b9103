from dataclasses import replace

import pytest

from bench.config import Execution
from bench.errors import UserError
from bench.experiments import arms as timing
from bench.staleness import ON_POLICY, bounded, lag
from tests.bench import fakes


def test_arms_differ_by_the_schedule_and_the_cores(monkeypatch):
    monkeypatch.setattr(timing, "available_cores", lambda: 5)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(5)), raising=False)
    split, whole, overlapped = (
        timing.execution(timing.arm(fakes.config(), arm)) for arm in timing.ARMS
    )
    assert split == overlapped
    assert (split.source, split.learner_threads, split.engine_threads) == ("overlapped", 3, 2)
    assert split.cores() == ([0, 1, 2], [3, 4])
    assert (whole.source, whole.learner_threads, whole.cores()[0]) == (
        "inline", 5, [0, 1, 2, 3, 4],
    )  # fmt: skip


def test_arm_sets_the_schedule_and_makes_a_cell_of_its_own():
    config = fakes.config(n=1)
    split, whole, overlapped = (timing.arm(config, arm) for arm in timing.ARMS)
    assert (split.schedule, whole.schedule, overlapped.schedule) == (ON_POLICY, ON_POLICY, lag(1))
    hashes = {c.config_hash() for c in (config, split, whole, overlapped)}
    assert len(hashes) == 4


def test_a_run_that_is_not_timed_has_the_hash_it_always_had():
    assert "timed" not in fakes.config().cell()
    assert timing.execution(fakes.config()).source == "inline"
    freely = replace(fakes.config(), schedule=bounded(2))  # which has no simulation
    assert timing.execution(freely).source == "overlapped"


def test_one_core_is_refused(monkeypatch):
    monkeypatch.setattr(timing, "available_cores", lambda: 1)
    with pytest.raises(UserError, match=r"need a core each, this process may use 1$"):
        timing.execution(timing.arm(fakes.config(), "split"))
    assert timing.execution(timing.arm(fakes.config(), "whole")).learner_threads == 1


def test_vllm_is_never_in_the_learners_process(monkeypatch):
    monkeypatch.setattr(timing, "available_cores", lambda: 4)
    config = replace(fakes.config(), engine="vllm")
    assert timing.execution(config).source == "overlapped"
    whole = timing.execution(timing.arm(config, "whole"))
    assert (whole.source, whole.learner_threads, whole.engine_threads) == ("overlapped", 4, 4)


def test_a_run_is_given_a_gpu_and_a_second_for_an_engine_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(timing, "available_cores", lambda: 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    inline, vllm = fakes.config(), replace(fakes.config(), engine="vllm")
    assert [timing.gpus_of(config) for config in (inline, vllm)] == [1, 2]
    assert [timing.gpus_of(timing.arm(inline, arm)) for arm in timing.ARMS] == [2, 2, 2]
    assert timing.gpus_of(inline, Execution(source="overlapped")) == 2
    assert timing.gpus_of(inline, Execution(source="overlapped", workers="ray")) == 1
    # cuda:3 is the fourth of all
    assert timing.gpus_of(inline, Execution(device="cuda:3")) >= 8
    assert timing.gpus_of(inline, Execution(source="overlapped", engine_device="cuda:3")) >= 8


def test_a_busy_machine_is_told_of(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (2.25, 0.0, 0.0))
    assert timing.load_warning() == (
        "the machine is busy (load 2.2): timed runs will look slower than they are"
    )
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 9.0, 9.0))
    assert timing.load_warning() is None
