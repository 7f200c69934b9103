"""The generated world: its words and its posts.

A post is a handful of statements "subject verb object ." and then "tl;dr:". Statements whose
subject is ``i`` are the author's own and matter; the others are noise. Neither verbs nor objects
repeat within a post.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.errors import UserError
from bench.tasks.base import TaskConfig
from bench.tasks.generated import text
from bench.tasks.generated.text import Ints

SPECIAL = (*text.SPECIAL, "i")
OWN = len(text.SPECIAL)
SUBJECTS = "boss mum dad sister brother friend roommate neighbour teacher cousin doctor"
VERBS = "lost found bought sold broke fixed hid stole wants hates likes took sent kept saw hit"
OBJECTS = (
    "car job dog cat phone house ring book cake money key bike coat letter ticket boat guitar lamp "
    "camera plant chair wallet shirt piano watch horse mirror tent"
)
WORDS = {"subjects": SUBJECTS.split(), "verbs": VERBS.split(), "objects": OBJECTS.split()}


@dataclass(frozen=True, kw_only=True)
class TldrTinyConfig(TaskConfig):
    """The size of the world and the habits of its annotators (rates are probabilities)."""

    name: ClassVar[str] = "tldr_tiny"
    implementation: ClassVar[str] = "bench.tasks.tldr_tiny.task:TldrTiny"

    subjects: int = 11  # besides "i"
    verbs: int = 16
    objects: int = 28
    statements: int = 5  # per post
    max_own: int = 3  # own statements per post: 1 to max_own, uniform
    max_clauses: int = 4  # per reference
    superfluous_rate: float = 0.9  # pads the summary with one or two noise statements
    omit_rate: float = 0.1  # leaves one own statement out, where there are several
    misreport_rate: float = 0.05  # gets the verb or the object of one clause wrong
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
            least = 1 if name == "subjects" else self.statements + 1
            _check(name, getattr(self, name), least, len(words))
        _check("max_own", self.max_own, 1, self.statements - 1)
        _check("max_clauses", self.max_clauses, self.max_own, self.statements)
        for field in fields(self):
            if field.name.endswith("_rate"):
                _check(field.name, getattr(self, field.name), 0, 1)
            if field.name.endswith("_prompts"):
                _check(field.name, getattr(self, field.name), 1, 10**6)

    def vocabulary(self) -> list[str]:
        """Return the words in the order of their token ids."""
        chosen = [word for name, words in WORDS.items() for word in words[: getattr(self, name)]]
        return [*SPECIAL, *chosen]

    @property
    def first_verb(self) -> int:
        """The token id of the first verb."""
        return len(SPECIAL) + self.subjects

    @property
    def first_object(self) -> int:
        """The token id of the first object."""
        return self.first_verb + self.verbs


def draw_statements(world: TldrTinyConfig, rng: np.random.Generator, n: int) -> Ints:
    """Draw the statements of ``n`` posts as token ids, [n, statements, 3], without full stops."""
    size = world.statements
    subjects = rng.integers(len(SPECIAL), world.first_verb, (n, size))
    own = rng.integers(1, world.max_own + 1, (n, 1))
    subjects[ranks(rng.random((n, size))) < own] = OWN
    verbs = world.first_verb + rng.random((n, world.verbs)).argsort(1)[:, :size]
    objects = world.first_object + rng.random((n, world.objects)).argsort(1)[:, :size]
    return np.stack([subjects, verbs, objects], axis=2)


def ranks(keys: NDArray[np.float64]) -> Ints:
    """Return each key's rank within its row, 0 for the smallest."""
    return keys.argsort(1).argsort(1)


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UserError(f"tldr_tiny parameter {name} = {value}: allowed are {least} to {most}")
