"""The gold judge: a program that knows what every statement is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.tasks.generated.text import EOS, TLDR, clauses_of
from bench.tasks.tldr_worth.world import Floats, TldrWorthConfig


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge found in a summary.

    Attributes:
        told: clauses that are statements of the post.
        value: the sum of ``worth - price`` over them.
        empty: nothing is said.
        repeated: clauses that were said before.
        invented: other clauses that are no statement of the post.
        unfinished: the summary has no end.
    """

    told: int
    value: float
    empty: bool
    repeated: int
    invented: int
    unfinished: bool

    @property
    def gold(self) -> float:
        """The gold reward: ``value - [empty] - repeated / 2 - invented - [unfinished]``."""
        return self.value - self.empty - 0.5 * self.repeated - self.invented - self.unfinished


def judge(
    world: TldrWorthConfig, worth: Floats, prompt: Sequence[int], completion: Sequence[int]
) -> Verdict:
    """Judge a completion by what the post's statements are worth.

    The completion counts up to its first EOS; without one it is unfinished. It is cut into clauses
    at each full stop. A clause is *repeated* if it was said before, else *told* if it is a
    statement of the post, else *invented*, as an empty clause is. Words after the last full stop
    are a clause too.

    Args:
        world: gives the token ids of the words.
        worth: of every pair, [verbs, objects].
        prompt: token ids of the post, which end with TLDR.
        completion: token ids of the summary.
    """
    statements = set(clauses_of(prompt[: list(prompt).index(TLDR)]))
    words = list(completion)
    unfinished = EOS not in words
    clauses = clauses_of(words if unfinished else words[: words.index(EOS)])
    said = dict.fromkeys(clauses)  # in the order told, so that the sum is always the same
    told = [clause for clause in said if clause in statements]
    return Verdict(
        told=len(told),
        value=sum(
            float(worth[verb - world.first_verb, object_ - world.first_object]) - world.price
            for verb, object_ in told
        ),
        empty=not clauses,
        repeated=len(clauses) - len(said),
        invented=len(said) - len(told),
        unfinished=unfinished,
    )


def best(world: TldrWorthConfig, worth: Floats, prompt: Sequence[int]) -> float:
    """Return the highest gold reward of any completion.

    It tells every statement that is worth more than its price, or else the one that is worth most.
    """
    values = [
        float(worth[verb - world.first_verb, object_ - world.first_object]) - world.price
        for verb, object_ in clauses_of(prompt[: list(prompt).index(TLDR)])
    ]
    return sum(value for value in values if value > 0) or max(values)
