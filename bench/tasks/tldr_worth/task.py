"""The task of a generated world in which models must learn what is worth telling.

The stand-in for TL;DR at the scale of a laptop. A policy starts from annotators' references, a
reward model learns from comparisons labelled by the gold judge, and neither learns all of it: rare
words are seen seldom, and small models check badly whether the post says what a summary claims.
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
from bench.tasks.tldr_worth.annotators import STREAMS, AnnotatedPost, annotated_posts, embellish
from bench.tasks.tldr_worth.judge import best, judge
from bench.tasks.tldr_worth.world import EOS, SPECIAL, STOP, Ints, TldrWorthConfig, sentences
from bench.types import Prompt

Comparison = tuple[Prompt, Completion, Completion]

SPLITS: tuple[Split, ...] = ("train", "tuning", "eval")
PROMPTS_PER_STREAM = 10**9  # prompt ids of a stream start at a multiple of it
PROMPTS_PER_SEED = 10**7


class TldrWorth(Task):
    """The task of one generated world; see ``bench.tasks.base.Task``."""

    def __init__(self, world: TldrWorthConfig) -> None:
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
        worth = self.world.worth
        return np.array([
            judge(self.world, worth, prompt.token_ids, completion).gold
            for prompt, completion in zip(prompts, completions, strict=True)
        ])  # fmt: skip

    def best_rewards(self, prompts: Sequence[Prompt]) -> NDArray[np.float64]:
        """Return the highest gold reward that each prompt allows; see ``judge.best``."""
        worth = self.world.worth
        return np.array([best(self.world, worth, prompt.token_ids) for prompt in prompts])

    def sft_pairs(self) -> Iterator[tuple[Prompt, Completion]]:
        """Yield prompts and references for SFT, endlessly; none of them is in a split."""
        for prompt, post in self._stream("sft"):
            yield prompt, post.reference()

    def comparisons(self, count: int, sample: Sampler, seed: int = 0) -> list[Comparison]:
        """Return comparisons labelled by the gold judge; none of their prompts is in a split.

        They are between two samples of the SFT model, or between one of them and the same one
        embellished (``TldrWorthConfig.embellished_rate``). Ties are dropped and replaced.

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
            gold = [self.gold_rewards(prompts, side) for side in zip(*pairs, strict=True)]
            for prompt, (first, second), better, worse in zip(prompts, pairs, *gold, strict=True):
                if better != worse:
                    chosen, rejected = (first, second) if better > worse else (second, first)
                    found.append((prompt, chosen, rejected))
        return found[:count]

    def _stream(self, name: str, seed: int = 0) -> Iterator[tuple[Prompt, AnnotatedPost]]:
        first = STREAMS.index(name) * PROMPTS_PER_STREAM + seed * PROMPTS_PER_SEED
        for i, post in enumerate(annotated_posts(self.world, name, seed)):
            yield Prompt(first + i, post.prompt()), post


def build_tokenizer(world: TldrWorthConfig) -> PreTrainedTokenizerFast:
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


def _statements(completion: Completion) -> Ints:
    """Return the clauses [n, 2] of a completion; ones that are not two words are left out."""
    clauses: list[list[int]] = [[]]
    for token in completion:
        if token == EOS:
            break
        if token == STOP:
            clauses.append([])
        else:
            clauses[-1].append(token)
    return np.array([c for c in clauses if len(c) == 2], dtype=np.int64).reshape(-1, 2)
