"""Randomness keyed by what it is for, never by when it is drawn."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bench.errors import UserError
from bench.types import Prompt

EVALUATION = -1  # in place of a batch index: the same draws in every run and at every step


def sample_seeds(
    seed: int, batch_index: int, prompts: Sequence[Prompt], completions_per_prompt: int
) -> list[int]:
    """Return one 63-bit seed per row, keyed by (seed, batch index, prompt id, sample index).

    Independent of the engine, the process and the order in which batches are generated, which is
    what makes an overlapped run equal to its inline simulation.
    """
    return [
        _hash(seed, batch_index, prompt.prompt_id, k)
        for prompt in prompts
        for k in range(completions_per_prompt)
    ]


def uniforms(seeds: Sequence[int], length: int) -> NDArray[np.float32]:
    """Return [rows, length] uniform draws in [0, 1); row r depends on ``seeds[r]`` alone."""
    draws = np.empty((len(seeds), length), dtype=np.float32)
    for row, seed in zip(draws, seeds, strict=True):
        np.random.Generator(np.random.Philox(key=seed)).random(dtype=np.float32, out=row)
    return draws


class PromptStream:
    """Batches of prompts: a new permutation per epoch, batch i a pure function of (seed, i)."""

    def __init__(self, prompts: Sequence[Prompt], batch_size: int, seed: int) -> None:
        """Split ``prompts`` into batches.

        Raises:
            UserError: there are fewer prompts than one batch needs.
        """
        if len(prompts) < batch_size:
            raise UserError(f"{len(prompts)} prompts are too few for batches of {batch_size}")
        self._prompts = prompts
        self._batch_size = batch_size
        self._seed = seed
        self._per_epoch = len(prompts) // batch_size

    def batch(self, index: int) -> tuple[Prompt, ...]:
        """Return batch ``index``; within an epoch no prompt comes twice."""
        epoch, position = divmod(index, self._per_epoch)
        order = _order(len(self._prompts), self._seed, epoch)
        chosen = order[position * self._batch_size : (position + 1) * self._batch_size]
        return tuple(self._prompts[i] for i in chosen)


@lru_cache(maxsize=4)  # every batch of an epoch asks for it
def _order(prompts: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(prompts)


def _hash(*parts: int) -> int:
    packed = struct.pack(f"<{len(parts)}q", *parts)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little") >> 1
