from functools import partial

import pytest

from bench.processes.thread import ThreadWorker

from . import worker_contract
from .counter import Counter


@pytest.mark.parametrize(
    "holds",
    [
        worker_contract.answers_calls_in_order,
        worker_contract.sends_exceptions_back_as_one_line_with_their_traceback,
    ],
)
def test_it_keeps_the_contract(holds):
    worker = ThreadWorker(partial(Counter, start=3), gpus=("GPU-a",))
    worker.ready.result(0)
    holds(worker, 5.0)
