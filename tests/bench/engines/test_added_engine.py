"""An engine that is one class and one line in ``ENGINES``."""

from dataclasses import replace

import pytest

from bench.config import Execution
from bench.engines import ENGINES
from bench.errors import UserError
from bench.experiments import arms
from bench.loop import train
from bench.staleness import lag

from .test_vllm_runs import config, random_models


@pytest.fixture(autouse=True)
def added(monkeypatch):
    monkeypatch.setitem(ENGINES, "added", "tests.bench.hosts:AddedEngine")


def test_it_does_whole_runs_checked_by_its_logprobs(tmp_path):
    run = replace(config(lag(1)), engine="added")
    models = random_models(tmp_path, "0.1m")
    result = train(run, models, execution=arms.execution(run))
    assert result.status == "completed"
    assert [step.rollout_version for step in result.steps] == [0, 0, 1, 2, 3, 4, 5, 6]
    assert not any("checksum_ok" in step.metrics for step in result.steps)
    # Below any gap that there is.
    strict = replace(arms.execution(run), max_logprob_gap_nats=1e-12)
    with pytest.raises(RuntimeError, match=r"version 0 are \S+ nats per token away"):
        train(run, models, execution=strict)


def test_it_is_refused_where_it_says_that_it_cannot_be():
    run = replace(config(lag(1)), engine="added")
    assert arms.execution(run).source == "overlapped"
    with pytest.raises(UserError, match=r"^engine 'added': needs its own process, source must be"):
        train(run, None, execution=Execution())
