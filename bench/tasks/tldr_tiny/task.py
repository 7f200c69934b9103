"""The task of a generated world.

The stand-in for TL;DR at the scale of a laptop: references by annotators with habits, comparisons
labelled by the gold judge, and a judge that knows the truth about every clause.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from bench.tasks.base import Completion, Sampler, Split, Task
from bench.tasks.tldr_tiny.annotators import (
    STREAMS,
    AnnotatedPost,
    annotated_posts,
    generator,
    perturb,
)
from bench.tasks.tldr_tiny.judge import judge
from bench.tasks.tldr_tiny.world import SPECIAL, TldrTinyConfig
from bench.types import Prompt

Comparison = tuple[Prompt, Completion, Completion]

SPLITS: tuple[Split, ...] = ("train", "tuning", "eval")
PROMPTS_PER_STREAM = 10**9  # prompt ids of a stream start at a multiple of it


class TldrTiny(Task):
    """The task of one generated world; see ``bench.tasks.base.Task``."""

    def __init__(self, world: TldrTinyConfig) -> None:
        """Generate nothing yet: a split takes a while, and not every reader needs all of them."""
        self.world = world
        self.tokenizer: PreTrainedTokenizerBase = build_tokenizer(world)
        self._splits: dict[Split, list[Prompt]] = {}
        self._references: dict[int, Completion] = {}

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """Return the split's prompts, always in the same order."""
        if split not in self._splits:
            sizes: dict[Split, int] = {
                "train": self.world.train_prompts,
                "tuning": self.world.tuning_prompts,
                "eval": self.world.eval_prompts,
            }
            rows = list(islice(self._stream(split), sizes[split]))
            self._splits[split] = [prompt for prompt, _ in rows]
            self._references |= {prompt.prompt_id: post.reference() for prompt, post in rows}
        return self._splits[split]

    def references(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Return the annotator's summary of each prompt of a split, EOS included."""
        streams = {STREAMS[prompt.prompt_id // PROMPTS_PER_STREAM] for prompt in prompts}
        for split in SPLITS:
            if split in streams:
                self.prompts(split)
        return [self._references[prompt.prompt_id] for prompt in prompts]

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

    def sft_pairs(self) -> Iterator[tuple[Prompt, Completion]]:
        """Yield prompts and references for SFT, endlessly; none of them is in a split."""
        for prompt, post in self._stream("sft"):
            yield prompt, post.reference()

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


def build_tokenizer(world: TldrTinyConfig) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per word; padding is not EOS."""
    pad, eos = SPECIAL[:2]
    words = {word: i for i, word in enumerate(world.vocabulary())}
    tokenizer = Tokenizer(WordLevel(words))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token=eos,
        clean_up_tokenization_spaces=False,
    )
