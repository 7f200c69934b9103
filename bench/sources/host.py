"""The engine's side of ``OverlappedSource``: runs in the worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from bench.sources import handoff
from bench.sources.base import Checksummed, Engine, InFlight
from bench.types import Prompt, Rollouts, Sampling, Span, WeightSnapshot

TENSORS = (
    "prompt_tokens", "prompt_mask", "completion_tokens", "completion_mask", "logprobs", "finished",
    "token_versions",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """A request to generate one batch."""

    index: int
    policy_version: int | None  # None: the newest at the start of generation
    prompts: tuple[Prompt, ...]
    sampling: Sampling
    seeds: list[int]


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated batch, as arrays: each pickled tensor would need a file descriptor of its own."""

    policy_version: int
    arrays: Mapping[str, NDArray[Any]]
    generate_s: float
    # Of the weights loaded for this batch, by version; None: the engine cannot report one.
    checksums: Mapping[int, str | None]
    spans: tuple[Span, ...]

    def rollouts(
        self, call: Call, transfer: Mapping[str, float], device: torch.device | str
    ) -> Rollouts:
        """Return the batch as the engine returned it."""
        tensors = {name: torch.from_numpy(array) for name, array in self.arrays.items()}
        return Rollouts(
            policy_version=self.policy_version,
            prompts=call.prompts,
            completions_per_prompt=call.sampling.completions_per_prompt,
            generate_s=self.generate_s,
            transfer=transfer,
            **{name: tensor.to(device) for name, tensor in tensors.items()},
        )


class EngineHost:
    """An engine that reads its weights from a hand-off directory."""

    def __init__(self, engine_factory: Callable[[], Engine], directory: Path) -> None:
        """Build the engine."""
        self._engine = engine_factory()
        self._directory = directory
        self._loaded: int | None = None
        self._checksums: dict[int, str | None] = {}
        self._spans: list[Span] = []

    def generate(self, call: Call) -> Answer:
        """Load the weights that the batch asks for, unless they are loaded, and generate it.

        If it asks for the newest, an ``InFlight`` engine also loads those that are published
        while it generates.

        Raises:
            FileNotFoundError: the weights are not in the directory.
        """
        self._checksums, self._spans = {}, []
        if (snapshot := self._wanted(call)) is not None:
            self._load(snapshot, call)
        start = time.perf_counter()
        if call.policy_version is None and isinstance(self._engine, InFlight):
            rollouts = self._generate_in_flight(self._engine, call)
        else:
            rollouts = self._engine.generate(call.prompts, call.sampling, call.seeds)
        self._spans.append(Span("engine", "generate", start, time.perf_counter(), call.index))
        tensors = {name: getattr(rollouts, name) for name in TENSORS}
        return Answer(
            rollouts.policy_version,
            {name: t.cpu().numpy() for name, t in tensors.items() if t is not None},
            rollouts.generate_s,
            self._checksums,
            tuple(self._spans),
        )

    def _wanted(self, call: Call) -> WeightSnapshot | None:
        """Return the weights to generate the batch with, or None if they are loaded."""
        while True:
            version = call.policy_version
            if version is None:
                version = handoff.versions(self._directory)[-1]
            if version == self._loaded:
                return None
            try:
                return handoff.read(self._directory, version)
            except FileNotFoundError:
                # The newest may have been replaced, and removed, before it was read.
                if call.policy_version is not None:
                    raise

    def _load(self, snapshot: WeightSnapshot, call: Call) -> None:
        start = time.perf_counter()
        self._loaded = None  # a load that fails leaves the engine undefined
        self._engine.load(snapshot)
        self._note_loaded(snapshot.policy_version)
        self._spans.append(Span("engine", "load", start, time.perf_counter(), call.index))

    def _note_loaded(self, policy_version: int) -> None:
        """Remember what the engine has loaded, with its checksum if it can report one."""
        self._loaded = policy_version
        engine = self._engine
        self._checksums[policy_version] = (
            engine.checksum() if isinstance(engine, Checksummed) else None
        )

    def _generate_in_flight(self, engine: InFlight, call: Call) -> Rollouts:
        given: list[int] = []  # versions that the engine got, in order

        def confirm() -> None:
            """Note the last one: the engine has loaded it by now (see ``InFlight``)."""
            if given and given[-1] != self._loaded:
                self._note_loaded(given[-1])

        def newer() -> WeightSnapshot | None:
            confirm()
            snapshot = self._wanted(call)
            if snapshot is not None:
                given.append(snapshot.policy_version)
            return snapshot

        rollouts = engine.generate_in_flight(call.prompts, call.sampling, call.seeds, newer)
        confirm()
        return rollouts
