"""The task of a generated world in which models must learn what is worth telling.

The stand-in for TL;DR at the scale of a laptop. A policy starts from annotators' references, a
reward model learns from comparisons labelled by the gold judge, and neither learns all of it: rare
words are seen seldom, and small models check badly whether the post says what a summary claims.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.tasks.generated.text import TLDR, Ints, clauses_of
from bench.tasks.worth.annotators import guess, worth_telling
from bench.tasks.worth.judge import Values
from bench.tasks.worth.task import WorthTask


class TldrWorth(WorthTask):
    """The task of one generated world; see ``bench.tasks.base.Task``."""

    def values(self, prompt: Sequence[int]) -> Values:
        """Return ``worth - price`` of each statement."""
        return self.world.net_worth(clauses_of(prompt[: list(prompt).index(TLDR)]))

    def annotate(
        self, rng: np.random.Generator, statements: Ints
    ) -> tuple[NDArray[np.bool_], list[tuple[int, ...]]]:
        """Tell what seems worth telling, in the order of the post; nothing is asked."""
        return worth_telling(guess(self.world, rng, statements)), [()] * len(statements)
