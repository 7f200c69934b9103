"""What holds for every worker that hosts a ``Counter`` which starts at 3, wherever it is."""

import pytest

from bench.errors import UserError
from bench.processes.worker import WorkerError


def answers_calls_in_order(worker, wait_s):
    futures = [worker.submit("add", value) for value in (1, 10, 100)]
    assert [future.result(wait_s) for future in futures] == [4, 14, 114]


def sends_exceptions_back_as_one_line_with_their_traceback(worker, wait_s):
    future = worker.submit("boom", KeyError("first\nsecond"))
    with pytest.raises(WorkerError, match=r"^KeyError: ") as caught:
        future.result(wait_s)
    assert "\n" not in str(caught.value)
    assert "in boom" in caught.value.details
    with pytest.raises(UserError, match=r"^model 'x': allowed are y$"):
        worker.submit("boom", UserError("model 'x': allowed are y")).result(wait_s)
    with pytest.raises(WorkerError, match="AttributeError"):
        worker.submit("no_such_method").result(wait_s)
    assert worker.submit("add", 0).result(wait_s) >= 3  # it goes on


FAILS = {  # what a hosted object does on its start, and what the worker then says
    "raise": "^ValueError: no model by that name$",
    "exit": "^the counter exited with status 1: the loader gave up$",
    "kill": "^the counter was killed by SIGKILL$",
}
