"""vLLM in a process of its own, to be timed beside the suite's engine where it is installed."""

from __future__ import annotations

import atexit
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.assembly import engine_place
from bench.engines.vllm import VllmEngine
from bench.errors import UserError
from bench.processes.local import LocalWorker
from bench.sources import handoff
from bench.throughput import workload

START_TIMEOUT_S = 300.0


class Served(VllmEngine):
    """An engine that reads its weights from a hand-off directory."""

    def take(self, directory: Path, policy_version: int) -> str:
        """Load a snapshot from a hand-off directory and return its checksum."""
        self.load(handoff.read(directory, policy_version))
        return self.checksum()


@cache
def vllm(model: str) -> LocalWorker | None:
    """Return a worker with vLLM and ``workload.policy``; None: not installed, cannot serve it."""
    if find_spec("vllm") is None:
        return None
    tokenizer = workload.task().tokenizer
    tokens = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    with TemporaryDirectory() as directory:
        workload.policy(model).save_pretrained(directory)
        _, gpus = engine_place(workload.DEVICE)
        factory = partial(Served, Path(directory), **tokens)
        worker = LocalWorker(factory, name="vLLM's process", gpus=gpus)
        atexit.register(worker.close)
        try:
            worker.ready.result(START_TIMEOUT_S)
        except UserError:  # on a CPU it has no attention for small heads
            return None
    return worker
