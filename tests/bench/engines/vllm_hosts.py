"""What a worker hosts to test vLLM's engine; it imports no test framework."""

import itertools
import os
import signal
import time
from pathlib import Path
from types import MappingProxyType

from bench.engines.vllm import VllmEngine
from bench.errors import UserError
from bench.sources.host import EngineHost


class Versatile(VllmEngine):
    """An engine for one test after another; a new process would take ten seconds.

    It updates its weights in the middle of a batch, fails, lies or waits as told, and may itself
    be hosted as it is in an overlapped run.
    """

    _lie = 0.0

    def open(self, directory=None, options=MappingProxyType({})):
        """Start a run on a hand-off directory.

        From the second batch on ``marker`` is touched after the fourth token and newer weights are
        waited for, up to ``wait_s``. ``lie`` is added to a weight after every load.
        """
        self._host = EngineHost(lambda: self, directory)
        self._wait_s, self._marker = options.get("wait_s", 0.0), options.get("marker")
        self._lie, self._batches = options.get("lie", 0.0), 0

    def answer(self, call):
        return self._host.generate(call)

    def load(self, snapshot):
        super().load(snapshot)
        self._engine.collective_rpc(_add, args=(self._lie,))

    def generate_in_flight(self, prompts, sampling, seeds, newer):
        self._batches += 1
        tokens = itertools.count()

        def patient():
            snapshot = newer()
            if next(tokens) == 4 and self._batches > 1:
                if self._marker:
                    self._marker.touch()
                end = time.monotonic() + self._wait_s
                while snapshot is None and time.monotonic() < end:
                    time.sleep(0.002)
                    snapshot = newer()
            return snapshot

        return super().generate_in_flight(prompts, sampling, seeds, patient)

    def generate_with_update(self, prompts, sampling, seeds, snapshot, after_steps):
        calls = iter(range(after_steps + 1))

        def newer():
            return snapshot if next(calls, 0) == after_steps else None

        return super().generate_in_flight(prompts, sampling, seeds, newer)

    def fail_after(self, prompts, sampling, seeds, steps):
        calls = iter(range(steps))

        def newer():
            if next(calls, None) is None:
                raise RuntimeError("no more")

        return super().generate_in_flight(prompts, sampling, seeds, newer)

    def refusal(self, model_dir):
        """Return why another model is refused."""
        try:
            VllmEngine(model_dir, pad_token_id=0, eos_token_id=1)
        except UserError as error:
            return str(error)


def _add(worker, amount):
    next(worker.model_runner.get_model().parameters()).data.view(-1)[0] += amount


class Mortal(VllmEngine):
    """Kills its process in the middle of its fourth batch, unless ``record`` says it did so."""

    def __init__(self, record: Path, model_dir: Path, *, device: str, **arguments):
        del device
        super().__init__(model_dir, **arguments)
        self._record, self._batches, self._tokens = record, 0, 0

    def generate(self, prompts, sampling, seeds):
        self._batches += 1
        if self._batches == 4 and not self._record.exists():
            return super().generate_in_flight(prompts, sampling, seeds, self._die)
        return super().generate(prompts, sampling, seeds)

    def _die(self):
        self._tokens += 1
        if self._tokens == 5:
            self._record.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
