"""A worker that prints without end does not fill the disk."""

import os

import pytest

from bench.processes import local
from bench.processes.local import LocalWorker
from bench.processes.worker import WorkerDiedError

from ..live_processes import eventually


class Printer:
    """Something that prints."""

    def say(self, lines: int) -> None:
        for at in range(lines):
            print(f"line {at} {'x' * 90}")

    def fail(self) -> None:
        print("the last word")
        os._exit(3)


def test_the_file_of_a_workers_output_stays_small_and_keeps_its_end(monkeypatch):
    monkeypatch.setattr(local, "LOG_BYTES", 50_000)
    worker = LocalWorker(Printer, name="the printer")
    for _ in range(5):
        worker.submit("say", 2_000).result(30)
    size = lambda: os.fstat(worker._log.fileno()).st_size  # noqa: E731
    assert eventually(lambda: size() <= 50_000)
    with pytest.raises(WorkerDiedError) as raised:
        worker.submit("fail").result(30)
    assert str(raised.value) == "the printer exited with status 3: the last word"
    worker.close()
