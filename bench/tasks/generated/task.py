"""A task whose prompts and references are generated: its splits and its tokenizer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from bench.tasks.base import Completion, Split, Task
from bench.tasks.generated.text import SPECIAL
from bench.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPLITS: tuple[Split, ...] = ("train", "tuning", "eval")  # the first streams, in this order
PROMPTS_PER_STREAM = 10**9  # prompt ids of a stream start at a multiple of it


class World(Protocol):
    """What a world's configuration has."""

    @property
    def train_prompts(self) -> int:
        """Prompts of split ``train``."""

    @property
    def tuning_prompts(self) -> int:
        """Prompts of split ``tuning``."""

    @property
    def eval_prompts(self) -> int:
        """Prompts of split ``eval``."""

    def vocabulary(self) -> list[str]:
        """Return the words in the order of their token ids."""


class AnnotatedPost(Protocol):
    """A post with its reference summary."""

    def reference(self) -> tuple[int, ...]:
        """Return the reference summary's token ids, EOS included."""


class GeneratedTask(Task):
    """The part of a task that its world's streams decide; see ``bench.tasks.base.Task``."""

    def __init__(self, world: World) -> None:
        """Generate nothing yet: a split takes a while, and not every reader needs all of them."""
        self._world = world
        self._splits: dict[Split, list[Prompt]] = {}
        self._references: dict[int, Completion] = {}

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:  # type: ignore[override]
        """The tokenizer of the world's words."""
        return build_tokenizer(self._world)

    @abstractmethod
    def _stream(self, name: str, seed: int = 0) -> Iterator[tuple[Prompt, AnnotatedPost]]:
        """Yield the prompts of a stream and their posts, endlessly."""

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """Return the split's prompts, always in the same order."""
        if split not in self._splits:
            sizes: dict[Split, int] = {
                "train": self._world.train_prompts,
                "tuning": self._world.tuning_prompts,
                "eval": self._world.eval_prompts,
            }
            rows = list(islice(self._stream(split), sizes[split]))
            self._splits[split] = [prompt for prompt, _ in rows]
            self._references |= {prompt.prompt_id: post.reference() for prompt, post in rows}
        return self._splits[split]

    def references(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Return the annotator's summary of each prompt of a split, EOS included."""
        streams = {prompt.prompt_id // PROMPTS_PER_STREAM for prompt in prompts}
        for at, split in enumerate(SPLITS):
            if at in streams:
                self.prompts(split)
        return [self._references[prompt.prompt_id] for prompt in prompts]

    def sft_pairs(self) -> Iterator[tuple[Prompt, Completion]]:
        """Yield prompts and references for SFT, endlessly; none of them is in a split."""
        for prompt, post in self._stream("sft"):
            yield prompt, post.reference()


def build_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per word; padding is not EOS."""
    # Here, since figures, which ask a task for its ceiling, need none of it.
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

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
