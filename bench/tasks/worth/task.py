"""A task in whose world statements differ in worth: its rewards, comparisons and prompts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bench.tasks.base import Completion, Sampler
from bench.tasks.generated.posts import STREAMS, AnnotatedPost
from bench.tasks.generated.task import PROMPTS_PER_STREAM, GeneratedTask
from bench.tasks.generated.text import EOS, Ints, clauses_of, sentences
from bench.tasks.worth.annotators import annotated, embellish
from bench.tasks.worth.judge import Values, best, judge
from bench.tasks.worth.world import Floats, WorthWorld
from bench.types import Prompt

Comparison = tuple[Prompt, Completion, Completion]

PROMPTS_PER_SEED = 10**7


class WorthTask(GeneratedTask):
    """The task of one generated world; see ``bench.tasks.base.Task``."""

    def __init__(self, world: WorthWorld) -> None:
        """Take the world."""
        super().__init__(world)
        self.world = world

    @abstractmethod
    def values(self, prompt: Sequence[int]) -> Values:
        """Return what telling each statement of a prompt is worth to the gold judge."""

    @abstractmethod
    def annotate(
        self, rng: np.random.Generator, statements: Ints
    ) -> tuple[NDArray[np.bool_], list[tuple[int, ...]]]:
        """Return what annotators tell of posts, and what they were asked; see ``Annotate``."""

    def opinions(
        self,
        rng: np.random.Generator,
        prompts: Sequence[Prompt],
        completions: Sequence[Completion],
    ) -> Floats:
        """Return the rewards by which comparisons are labelled: here the gold judge's."""
        del rng
        return self.gold_rewards(prompts, completions)

    def gold_rewards(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]
    ) -> NDArray[np.float64]:
        """Return the gold judge's reward of each completion; see ``judge.Verdict.gold``."""
        return np.array([
            judge(self.values(prompt.token_ids), completion).gold
            for prompt, completion in zip(prompts, completions, strict=True)
        ])  # fmt: skip

    def best_rewards(self, prompts: Sequence[Prompt]) -> NDArray[np.float64]:
        """Return the highest gold reward that each prompt allows; see ``judge.best``."""
        return np.array([best(self.values(prompt.token_ids)) for prompt in prompts])

    def comparisons(self, count: int, sample: Sampler, seed: int = 0) -> list[Comparison]:
        """Return comparisons labelled by ``opinions``; none of their prompts is in a split.

        They are between two samples of the SFT model, or between one of them and the same one
        embellished (``WorthWorld.embellished_rate``). Ties are dropped and replaced.

        Args:
            count: how many.
            sample: the SFT model.
            seed: other prompts and other draws for every one.
        """
        key = [self.world.seed, 2 * 10**6 + seed]
        rng = np.random.Generator(np.random.Philox(key=key))
        stream = self._stream("comparisons", seed)
        found: list[Comparison] = []
        while len(found) < count:
            prompts = [prompt for prompt, _ in islice(stream, min(2048, count))]
            pairs = sample(prompts, 2)
            for prompt, pair in zip(prompts, pairs, strict=True):
                if rng.random() < self.world.embellished_rate:
                    clauses = embellish(self.world, rng, prompt.token_ids, _statements(pair[0]))
                    pair[1] = (*sentences(clauses), EOS)
            liked = [self.opinions(rng, prompts, side) for side in zip(*pairs, strict=True)]
            for prompt, (first, second), better, worse in zip(prompts, pairs, *liked, strict=True):
                if better != worse:
                    chosen, rejected = (first, second) if better > worse else (second, first)
                    found.append((prompt, chosen, rejected))
        return found[:count]

    def _stream(self, name: str, seed: int = 0) -> Iterator[tuple[Prompt, AnnotatedPost]]:
        first = STREAMS.index(name) * PROMPTS_PER_STREAM + seed * PROMPTS_PER_SEED
        for i, post in enumerate(annotated(self.world, name, seed, self.annotate)):
            yield Prompt(first + i, post.prompt()), post


def _statements(completion: Completion) -> Ints:
    """Return the clauses [n, 2] of a completion; ones that are not two words are left out."""
    words = completion[: completion.index(EOS)] if EOS in completion else completion
    told = [clause for clause in clauses_of(words) if len(clause) == 2]
    return np.array(told, dtype=np.int64).reshape(-1, 2)
