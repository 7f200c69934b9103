"""A learner over several real processes equals one in one process."""

import math
import os
import socket
from functools import partial

import numpy as np
import pytest
import torch

from bench.learning.parallel import joined
from bench.processes.local import LocalWorker

from .. import runs
from .rank import SIZES, Rank, interrupted, resumed, two_updates

WAIT_S = 120


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    store = tmp_path_factory.mktemp("ranks") / "store"
    started = [LocalWorker(partial(Rank, r, store), name=f"rank {r}") for r in range(max(SIZES))]
    yield started
    for one in started:
        one.close(grace_s=0)


def together(workers, method, *args):
    """Call a method on ranks at the same time; return what each returns."""
    return [one.result(WAIT_S) for one in [w.submit(method, *args) for w in workers]]


def test_every_algorithm_has_the_weights_of_one_rank(workers):
    told = [worker.submit("two_updates") for worker in workers]
    alone = two_updates()
    first, *others = [one.result(WAIT_S) for one in told]
    start = np.concatenate([p.detach().flatten() for p in runs.policy().parameters()])
    assert list(first) == list(SIZES)
    for size, found in first.items():
        assert list(found) == list(alone)
        for name, (weights, losses) in found.items():
            expected, expected_losses = alone[name]
            assert losses == pytest.approx(expected_losses, rel=1e-5, nan_ok=True), (name, size)
            limit = 1e-6 * max(1, abs(expected).max())  # of huge weights: relative
            assert abs(weights - expected).max() <= limit, (name, size)
            assert abs(weights[: len(start)] - start).max() > 1e-3, name  # of a step of 0.007
    assert math.isnan(first[2]["diverges"][1][1])
    for other in others:  # to the bit, since all take the same step
        for size, found in other.items():
            for name, (weights, losses) in found.items():
                assert np.array_equal(weights, first[size][name][0]), (name, size)
                assert np.array_equal(losses, first[size][name][1], equal_nan=True), (name, size)


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 1), (1, 3)])
def test_a_run_goes_on_under_another_number_of_ranks(workers, tmp_path, before, after):
    if before == 1:
        interrupted(tmp_path)
    else:
        together(workers[:before], "interrupted", before, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]
    if after == 1:
        found = [resumed(tmp_path)]
    else:
        found = together(workers[:after], "resumed", after, tmp_path)
    assert abs(found[0] - resumed(None)).max() <= 1e-6
    assert all(np.array_equal(found[0], other) for other in found)


def test_a_rank_that_does_not_come_is_noticed(workers):
    said = workers[0].submit("waits_in_vain").result(WAIT_S)
    assert said == "another rank has ended, or did not answer in time"


def test_processes_that_a_rank_starts_do_not_take_themselves_for_ranks(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**told, "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    with joined(30, "cpu") as ranks:
        assert ranks.tell(("word", 1)) == ("word", 1)
        assert not {*told, "MASTER_PORT"} & os.environ.keys()
    assert not torch.distributed.is_initialized()
