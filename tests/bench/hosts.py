"""What workers host in tests, and engines whose output says what they were asked.

A worker imports this module by name: it imports no test framework.
"""

import os
import queue
import random
import signal
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bench.config import Execution
from bench.engines.hf import HfEngine
from bench.errors import UserError
from bench.sources.base import InFlight
from bench.sources.handoff import checksum
from bench.sources.host import EngineHost
from bench.types import Rollouts, WeightSnapshot

EXECUTION = Execution(source="overlapped", timeout_s=300.0, start_timeout_s=300.0)


def snapshot(version: int) -> WeightSnapshot:
    """Return weights that are the version."""
    return WeightSnapshot(version, {"w": torch.full((3,), float(version))})


class TagEngine:
    """Completions are [weights, prompt id, seed]: everything that a batch may depend on."""

    def __init__(self) -> None:
        self.policy_version = -1
        self._weights = {"w": torch.full((3,), -1.0)}

    def load(self, snapshot: WeightSnapshot) -> None:
        self._weights = {name: value.clone() for name, value in snapshot.state.items()}
        self.policy_version = snapshot.policy_version

    def checksum(self) -> str:
        return checksum(self._weights)

    def generate(self, prompts, sampling, seeds) -> Rollouts:
        k = sampling.completions_per_prompt
        ids = [prompt.prompt_id for prompt in prompts for _ in range(k)]
        rows = torch.tensor([[int(self._weights["w"][0]), i, s] for i, s in zip(ids, seeds)])  # noqa: B905
        ones = torch.ones_like(rows, dtype=torch.bool)
        return Rollouts(
            policy_version=self.policy_version,
            prompts=tuple(prompts),
            completions_per_prompt=k,
            prompt_tokens=rows[:, 1:2],
            prompt_mask=ones[:, :1],
            completion_tokens=rows,
            completion_mask=ones,
            logprobs=-rows.float(),
            finished=ones[:, 0],
        )


class InFlightEngine(TagEngine):
    """Takes over weights between any two of its three tokens.

    In its second batch it can be held after the first token. ``lie`` is added to a weight that it
    takes over after a first token.
    """

    def __init__(self, started=None, go=None, lie=0.0) -> None:
        super().__init__()
        self._started, self._go, self._lie = started, go, lie
        self._batches = 0

    def generate(self, prompts, sampling, seeds) -> Rollouts:
        self._sample_tokens(lambda: None)
        return super().generate(prompts, sampling, seeds)

    def generate_in_flight(self, prompts, sampling, seeds, newer) -> Rollouts:
        versions = self._sample_tokens(newer)
        rollouts = super().generate(prompts, sampling, seeds)
        rows = torch.tensor([versions] * len(seeds))
        return replace(rollouts, policy_version=min(versions), token_versions=rows)

    def _sample_tokens(self, newer) -> list[int]:
        versions = []
        self._batches += 1
        for token in range(3):
            if (snapshot := newer()) is not None:
                self.load(snapshot)
                self._weights["w"][-1] += self._lie if token else 0.0
            versions.append(self.policy_version)
            if token == 0 and self._batches == 2:
                self._started.set()
                self._go.wait(60)
        return versions


class LyingEngine(TagEngine):
    """Takes over every weight but one, of version 2 and later."""

    def load(self, snapshot: WeightSnapshot) -> None:
        super().load(snapshot)
        if snapshot.policy_version >= 2:
            self._weights["w"][-1] += 1


class WithoutChecksum:
    """An engine that reports no checksum, around one that would."""

    def __init__(self, engine) -> None:
        self.load, self.generate = engine.load, engine.generate
        if isinstance(engine, InFlight):
            self.generate_in_flight = engine.generate_in_flight


class AddedEngine(WithoutChecksum):
    """What a user may add: it asks for a process of its own and reports no checksum."""

    own_process = True

    @classmethod
    def require_installed(cls) -> None:
        pass

    @classmethod
    def from_checkpoint(cls, model_dir, **arguments):
        return cls(HfEngine.from_checkpoint(model_dir, **arguments))


class Deaf(WithoutChecksum):
    """It goes on with its first weights and labels its batches with the version that it got."""

    def __init__(self, engine) -> None:
        super().__init__(engine)
        self._engine = engine
        self.load = self._ignore

    def _ignore(self, snapshot: WeightSnapshot) -> None:
        self._engine.policy_version = snapshot.policy_version


class SlowHost(EngineHost):
    """Takes a random time for each batch, up to ``delay_s``."""

    def __init__(self, engine, directory, delay_s=0.0, seed=0) -> None:
        super().__init__(engine, directory)
        self._delay_s, self._random = delay_s, random.Random(seed)

    def generate(self, call):
        time.sleep(self._delay_s * self._random.random())
        return super().generate(call)


@dataclass(frozen=True)
class Fault:
    """What goes wrong the first ``times`` times that it starts, generates or loads a batch."""

    where: str  # start | generate | load
    index: int
    how: str  # kill | raise | hang
    times: int = 1


class FaultyHost(EngineHost):
    """Goes wrong as told; remembers in ``record`` what already went wrong in earlier processes."""

    def __init__(self, engine, directory, record: Path, fault: Fault) -> None:
        super().__init__(engine, directory)
        self._record, self._fault = record, fault
        self._perhaps("start", 0)

    def generate(self, call):
        self._perhaps("generate", call.index)
        return super().generate(call)

    def _load(self, snapshot, call) -> None:
        super()._load(snapshot, call)
        self._perhaps("load", call.index)

    def _perhaps(self, where, index) -> None:
        done = len(list(self._record.iterdir()))
        here = (where, index) == (self._fault.where, self._fault.index)
        if not here or done == self._fault.times:
            return
        (self._record / f"{done}-{os.getpid()}").touch()
        match self._fault.how:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise":
                raise RuntimeError("the engine has no opinion\nand a second line")
            case "refuse":
                raise UserError("the engine wants another model")
            case "hang":
                time.sleep(3600)


class ResettableHost:
    """A Hugging Face engine for one test after another; a new process would take seconds."""

    def __init__(self, model_dir, pad, eos) -> None:
        self._load_engine = lambda: HfEngine.from_checkpoint(
            model_dir, dtype="float32", device="cpu", pad_token_id=pad, eos_token_id=eos
        )

    def reset(self, directory, delay_s, seed) -> None:
        self._host = SlowHost(self._load_engine, directory, delay_s, seed)

    def generate(self, call):
        return self._host.generate(call)


class Shared:
    """A worker of ``ResettableHost`` as one source sees it: closing it leaves it running."""

    def __init__(self, worker, directory, delay_s, seed) -> None:
        self._worker = worker
        self.ready = worker.submit("reset", directory, delay_s, seed)
        self.submit = worker.submit

    alive = True

    def sync(self) -> None:
        pass

    def close(self, grace_s: float = 5.0) -> None:
        del grace_s
        self._worker.submit("reset", None, 0.0, 0).result(60)


class ThreadWorker:
    """A worker without a process, for properties that need many runs."""

    alive = True

    def __init__(self, hosted: object) -> None:
        self.ready: Future = Future()
        self.ready.set_result(None)
        self._hosted = hosted
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def submit(self, method, *args) -> Future:
        future: Future = Future()
        self._calls.put((future, method, args))
        return future

    def sync(self) -> None:
        pass

    def close(self, grace_s: float = 5.0) -> None:
        self._calls.put(None)
        self._thread.join(grace_s + 60)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            future, method, args = call
            try:
                future.set_result(getattr(self._hosted, method)(*args))
            except Exception as error:
                future.set_exception(error)
