"""The gold judge: a program that knows what telling each statement of a post is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.tasks.generated.text import EOS, clauses_of

Values = Mapping[tuple[int, ...], float]  # of the post's statements, by their words


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge found in a completion.

    Attributes:
        told: clauses that are statements of the post.
        value: the sum of their values.
        empty: nothing is said.
        repeated: clauses that were said before.
        invented: other clauses that are no statement of the post.
        unfinished: the completion has no end.
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

    @property
    def clauses(self) -> int:
        """How many clauses are said."""
        return self.told + self.repeated + self.invented


def judge(values: Values, completion: Sequence[int]) -> Verdict:
    """Judge a completion by what telling the post's statements is worth.

    The completion counts up to its first EOS; without one it is unfinished. It is cut into clauses
    at each full stop. A clause is *repeated* if it was said before, else *told* if it is a
    statement of the post, else *invented*, as an empty clause is. Words after the last full stop
    are a clause too.
    """
    words = list(completion)
    unfinished = EOS not in words
    clauses = clauses_of(words if unfinished else words[: words.index(EOS)])
    said = dict.fromkeys(clauses)  # in the order told, so that the sum is always the same
    told = [clause for clause in said if clause in values]
    return Verdict(
        told=len(told),
        value=sum(values[clause] for clause in told),
        empty=not clauses,
        repeated=len(clauses) - len(said),
        invented=len(said) - len(told),
        unfinished=unfinished,
    )


def best(values: Values) -> float:
    """Return the highest gold reward of any completion.

    It tells every statement whose value is above 0, or else the one of the highest value, which
    must be above -1: saying nothing costs as much.
    """
    return sum(value for value in values.values() if value > 0) or max(values.values())
