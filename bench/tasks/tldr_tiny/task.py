"""The task of a generated world.

The stand-in for TL;DR at the scale of a laptop: references by annotators with habits, comparisons
labelled by the gold judge, and a judge that knows the truth about every clause.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bench.tasks.base import Completion, Sampler
from bench.tasks.generated.posts import STREAMS, AnnotatedPost
from bench.tasks.generated.task import PROMPTS_PER_STREAM, GeneratedTask
from bench.tasks.tldr_tiny.annotators import (
    annotated_posts,
    generator,
    perturb,
)
from bench.tasks.tldr_tiny.judge import judge
from bench.tasks.tldr_tiny.world import TldrTinyConfig
from bench.types import Prompt

Comparison = tuple[Prompt, Completion, Completion]


class TldrTiny(GeneratedTask):
    """The task of one generated world; see ``bench.tasks.base.Task``."""

    def __init__(self, world: TldrTinyConfig) -> None:
        """Take the world."""
        super().__init__(world)
        self.world = world

    def gold_rewards(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]
    ) -> NDArray[np.float64]:
        """Return the gold judge's reward of each completion; see ``judge.Verdict.gold``."""
        return np.array([
            judge(prompt.token_ids, completion).gold
            for prompt, completion in zip(prompts, completions, strict=True)
        ])  # fmt: skip

    def best_rewards(self, prompts: Sequence[Prompt]) -> NDArray[np.float64]:
        """Return 1 for each prompt: a summary that tells the own statements and nothing else."""
        return np.ones(len(prompts))

    def comparisons(self, count: int, sample: Sampler, seed: int) -> list[Comparison]:
        """Return comparisons labelled by the gold judge; none of their prompts is in a split.

        Half of them are between two samples of the SFT model, half between a reference and the
        same one perturbed. Ties are dropped and replaced.
        """
        rng = generator(self.world, len(STREAMS), seed)
        stream = self._stream("comparisons", seed)
        found: list[Comparison] = []
        while len(found) < count:
            rows = list(islice(stream, min(2048, count)))
            prompts = [prompt for prompt, _ in rows]
            half = len(rows) // 2
            pairs = sample(prompts[:half], 2)
            pairs += [[post.reference(), perturb(self.world, rng, post)] for _, post in rows[half:]]
            gold = [self.gold_rewards(prompts, side) for side in zip(*pairs, strict=True)]
            for prompt, (first, second), better, worse in zip(prompts, pairs, *gold, strict=True):
                if better != worse:
                    chosen, rejected = (first, second) if better > worse else (second, first)
                    found.append((prompt, chosen, rejected))
        return found[:count]

    def _stream(self, name: str, seed: int = 0) -> Iterator[tuple[Prompt, AnnotatedPost]]:
        # Only the last stream has seeds: their ids lie beyond those of all others.
        first = (STREAMS.index(name) + seed) * PROMPTS_PER_STREAM
        for i, post in enumerate(annotated_posts(self.world, name, seed)):
            yield Prompt(first + i, post.prompt()), post
