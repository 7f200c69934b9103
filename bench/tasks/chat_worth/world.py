"""The world of the task: instructions about posts, and annotators who like long answers.

A prompt is a handful of statements, an instruction and "answer:". Instructions are of the kinds
``KINDS``; the last two name a word of the post. Answers have the length that the instruction asks
for: one clause, all of them, or as many as are worth telling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.tasks.generated.text import SPECIAL
from bench.tasks.worth.world import WorthWorld

KINDS = ("everything", "best", "worthwhile", "about", "without")
EVERYTHING, BEST, WORTHWHILE, ABOUT, WITHOUT = range(len(SPECIAL), len(SPECIAL) + len(KINDS))


@dataclass(frozen=True, kw_only=True)
class ChatWorthConfig(WorthWorld):
    """The size of the world and the habits of its annotators.

    Attributes:
        slip_rate: the share of statements that a reference leaves out though it should tell them,
            or the reverse.
        length_bonus: how much annotators who compare two answers like each clause for itself, of
            whatever kind; the gold judge does not.
        label_noise: standard deviation of how much they like an answer, beside that.
    """

    name: ClassVar[str] = "chat_worth"
    implementation: ClassVar[str] = "bench.tasks.chat_worth.task:ChatWorth"
    special: ClassVar[tuple[str, ...]] = (*SPECIAL[:3], "answer:", *KINDS)

    price: float = 0.5
    slip_rate: float = 0.1
    length_bonus: float = 0.2
    label_noise: float = 0.3

    def __post_init__(self) -> None:
        """Refuse a world that cannot be generated.

        Raises:
            UserError: a number is out of range.
        """
        super().__post_init__()
        self._check("statements", 2, 8)  # one to tell besides the one to leave out
        self._check("slip_rate", 0, 1)
        self._check("length_bonus", 0, 1)
        self._check("label_noise", 0, 10)
