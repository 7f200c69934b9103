"""The gold judge: a program that compares a summary with the post it should summarise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.tasks.generated.text import EOS, TLDR, clauses_of
from bench.tasks.tldr_tiny.world import OWN


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge found: clauses by kind, out of ``own`` statements that matter."""

    own: int
    covered: int
    superfluous: int
    repeated: int
    invented: int
    unfinished: bool

    @property
    def gold(self) -> float:
        """The gold reward, at most 1.

        ``covered / own - 0.25 superfluous - 0.25 repeated - 0.5 invented - 1 [unfinished]``.
        """
        return (
            self.covered / self.own
            - 0.25 * (self.superfluous + self.repeated)
            - 0.5 * self.invented
            - 1.0 * self.unfinished
        )


def judge(prompt: Sequence[int], completion: Sequence[int]) -> Verdict:
    """Judge a completion by the post's own statements.

    The completion counts up to its first EOS; without one it is unfinished. It is cut into clauses
    at each full stop. A clause is *repeated* if it was said before, else *covered* if it is an own
    statement of the post, *superfluous* if it is another one's, and *invented* if it is none of
    them, as an empty clause is. Words after the last full stop are a clause too.
    """
    statements = clauses_of(prompt[: list(prompt).index(TLDR)])
    words = list(completion)
    unfinished = EOS not in words
    clauses = clauses_of(words if unfinished else words[: words.index(EOS)])
    said = set(clauses)
    true = said & set(statements)
    covered = sum(clause[0] == OWN for clause in true)
    return Verdict(
        own=sum(statement[0] == OWN for statement in statements),
        covered=covered,
        superfluous=len(true) - covered,
        repeated=len(clauses) - len(said),
        invented=len(said - true),
        unfinished=unfinished,
    )
