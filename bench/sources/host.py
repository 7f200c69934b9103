"""The engine's side of ``OverlappedSource``: runs in the worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from bench import handoff
from bench.sources.base import VerifiableEngine
from bench.types import Prompt, Rollouts, Sampling, Span

TENSORS = (
    "prompt_tokens", "prompt_mask", "completion_tokens", "completion_mask", "logprobs", "finished",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """Generate this batch."""

    index: int
    policy_version: int | None  # None: the newest there is
    prompts: tuple[Prompt, ...]
    sampling: Sampling
    seeds: list[int]


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated batch, as arrays: a pickled tensor would travel by a descriptor of its own."""

    policy_version: int
    arrays: Mapping[str, NDArray[Any]]
    generate_s: float
    checksum: str | None  # of the weights now in the engine, if this batch had them loaded
    spans: tuple[Span, ...]

    def rollouts(
        self, call: Call, transfer: Mapping[str, float], device: torch.device | str
    ) -> Rollouts:
        """Return the batch as the engine returned it."""
        return Rollouts(
            policy_version=self.policy_version,
            prompts=call.prompts,
            completions_per_prompt=call.sampling.completions_per_prompt,
            generate_s=self.generate_s,
            transfer=transfer,
            **{name: torch.from_numpy(self.arrays[name]).to(device) for name in TENSORS},
        )


class EngineHost:
    """An engine that finds its weights in a hand-off directory."""

    def __init__(self, engine_factory: Callable[[], VerifiableEngine], directory: Path) -> None:
        """Build the engine."""
        self._engine = engine_factory()
        self._directory = directory
        self._loaded: int | None = None

    def generate(self, call: Call) -> Answer:
        """Load the weights that the batch asks for, unless they are loaded, and generate it.

        Raises:
            FileNotFoundError: they are not in the directory.
        """
        start = time.perf_counter()
        checksum, spans = None, []
        if self._wanted(call) != self._loaded:
            self._load(call)
            checksum = self._engine.checksum()
            spans.append(Span("engine", "load", start, time.perf_counter(), call.index))
        assert self._loaded is not None
        generating = time.perf_counter()
        rollouts = self._engine.generate(call.prompts, call.sampling, call.seeds)
        spans.append(Span("engine", "generate", generating, time.perf_counter(), call.index))
        return Answer(
            self._loaded,
            {name: getattr(rollouts, name).cpu().numpy() for name in TENSORS},
            rollouts.generate_s,
            checksum,
            tuple(spans),
        )

    def close(self) -> None:
        """Let the engine end what it started."""
        if hasattr(self._engine, "close"):
            self._engine.close()

    def _wanted(self, call: Call) -> int:
        if call.policy_version is not None:
            return call.policy_version
        return handoff.versions(self._directory)[-1]

    def _load(self, call: Call) -> None:
        while True:
            version = self._wanted(call)
            try:
                snapshot = handoff.read(self._directory, version)
            except FileNotFoundError:
                if version == self._wanted(call):
                    raise
                continue  # the newest was superseded twice since it was listed
            self._loaded = None  # until it is: a load that fails leaves the engine undefined
            self._engine.load(snapshot)
            self._loaded = version
            return
