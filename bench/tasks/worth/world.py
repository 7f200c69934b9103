"""The generated world: its words, its posts, and what each statement is worth.

A post is a handful of statements "verb object .". Neither verbs nor objects repeat within a post,
and common words are many times as frequent as rare ones. How much a statement is worth telling
depends on both of its words. Nothing in the post marks it: the gold judge knows it, annotators have
an opinion of it, and models learn what they can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.errors import UserError
from bench.tasks.base import TaskConfig
from bench.tasks.generated.text import SPECIAL, Ints

Floats = NDArray[np.float64]

VERBS = (
    "lost found bought sold broke fixed hid stole wanted hated liked took sent kept saw hit "
    "burnt cleaned drew dropped forgot gave held lent made moved needed packed sank used wore won"
)
OBJECTS = (
    "car job dog cat phone house ring book cake money key bike coat letter ticket boat guitar lamp "
    "camera plant chair wallet shirt piano watch horse mirror tent table bread garden radio shoe "
    "bed glass hat knife map pen rope scarf spoon stove sofa soap drum fence ladder kettle brush "
    "basket candle hammer bottle"
)
WORDS = {"verbs": VERBS.split(), "objects": OBJECTS.split()}


@dataclass(frozen=True, kw_only=True)
class WorthWorld(TaskConfig):
    """The size of a world and the habits of its annotators.

    Attributes:
        verbs: how many there are.
        objects: how many there are.
        zipf_exponent: the word of rank r is drawn in proportion to ``r ** -zipf_exponent``.
        statements: of a post.
        interaction: the share of the variance of worth that is due to the pair of words, and so
            has to be learnt by heart; the rest is the sum of what verb and object are worth.
        taste: the weight that annotators give to a taste of their own, which has nothing to do
            with worth.
        annotator_noise: standard deviation of an annotator's guess of what a statement is worth.
        price: what telling a statement costs; one that is worth more should be told.
        embellished_rate: the share of comparisons in which a sample is held against the same
            one with a better-sounding statement that the post does not make.
        train_prompts: prompts of split ``train``.
        tuning_prompts: prompts of split ``tuning``.
        eval_prompts: prompts of split ``eval``.
        seed: of everything that is drawn.
    """

    special: ClassVar[tuple[str, ...]] = SPECIAL  # the words before the verbs

    verbs: int = 32
    objects: int = 54
    zipf_exponent: float = 0.7
    statements: int = 5
    interaction: float = 0.3
    taste: float = 0.6
    annotator_noise: float = 0.2
    price: float = 0.4
    embellished_rate: float = 0.3
    train_prompts: int = 16384
    tuning_prompts: int = 1024
    eval_prompts: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a world that cannot be generated.

        Raises:
            UserError: a number is out of range.
        """
        for name, words in WORDS.items():
            self._check(name, self.statements + 1, len(words))
        self._check("statements", 1, 8)
        for name in ("interaction", "taste", "price", "embellished_rate"):
            self._check(name, 0, 1)
        for name in ("zipf_exponent", "annotator_noise"):
            self._check(name, 0, 10)
        for field in fields(self):
            if field.name.endswith("_prompts"):
                self._check(field.name, 1, 10**6)

    def _check(self, parameter: str, least: float, most: float) -> None:
        value = getattr(self, parameter)
        if not least <= value <= most:
            raise UserError(
                f"{self.name} parameter {parameter} = {value}: allowed are {least} to {most}"
            )

    def vocabulary(self) -> list[str]:
        """Return the words in the order of their token ids."""
        chosen = [word for name, words in WORDS.items() for word in words[: getattr(self, name)]]
        return [*self.special, *chosen]

    @property
    def first_verb(self) -> int:
        """The token id of the first verb."""
        return len(self.special)

    @property
    def first_object(self) -> int:
        """The token id of the first object."""
        return self.first_verb + self.verbs

    @cached_property
    def worth(self) -> Floats:
        """What each pair of words is worth, [verbs, objects], uniform in (0, 1)."""
        return self._opinion(0)

    @cached_property
    def taste_for(self) -> Floats:
        """How much annotators like each pair of words, [verbs, objects], uniform in (0, 1)."""
        return self._opinion(1)

    def _opinion(self, stream: int) -> Floats:
        rng = np.random.Generator(np.random.Philox(key=[self.seed, 10**6 + stream]))
        verbs, objects = rng.standard_normal((self.verbs, 1)), rng.standard_normal(self.objects)
        pairs = rng.standard_normal((self.verbs, self.objects))
        by_word = np.sqrt((1 - self.interaction) / 2) * (verbs + objects)
        latent = by_word + np.sqrt(self.interaction) * pairs
        ranks_of = latent.ravel().argsort().argsort().reshape(latent.shape)
        return np.asarray((ranks_of + 0.5) / latent.size)

    def of_pairs(self, table: Floats, statements: Ints) -> Floats:
        """Return the entries of a [verbs, objects] table for statements [..., 2] of token ids."""
        verbs, objects = statements[..., 0], statements[..., 1]
        return np.asarray(table[verbs - self.first_verb, objects - self.first_object])

    def net_worth(self, statements: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], float]:
        """Return ``worth - price`` of each statement of a post."""
        worth, verb, object_ = self.worth, self.first_verb, self.first_object
        return {
            words: float(worth[words[0] - verb, words[1] - object_]) - self.price
            for words in statements
        }


def draw_statements(world: WorthWorld, rng: np.random.Generator, n: int) -> Ints:
    """Draw the statements of ``n`` posts as token ids, [n, statements, 2], without full stops."""
    verbs = world.first_verb + _draw_words(world, rng, n, world.verbs)
    objects = world.first_object + _draw_words(world, rng, n, world.objects)
    return np.stack([verbs, objects], axis=2)


def _draw_words(world: WorthWorld, rng: np.random.Generator, n: int, words: int) -> Ints:
    """Draw distinct words by their frequency: those with the largest perturbed log-frequency."""
    log_frequency = -world.zipf_exponent * np.log(np.arange(1, words + 1))
    keys = log_frequency + rng.gumbel(size=(n, words))
    return (-keys).argsort(1)[:, : world.statements]
