"""What is done to whom, and when: drawn from a seed."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from random import Random

from .processes import MAIN
from .scenarios import Scenario

KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
STOP, CONT = signal.SIGSTOP, signal.SIGCONT
ITSELF = "itself"


@dataclass(frozen=True)
class Move:
    """Signals to a process and, after a pause, another one to it or to the main process."""

    first: signal.Signals
    then: signal.Signals | None = None
    to: str = ITSELF

    def __str__(self) -> str:
        """Return what a table calls it."""
        if self.then is None:
            return self.first.name
        whom = "" if self.to == ITSELF else f" to {self.to}"
        return f"{self.first.name}, then {self.then.name}{whom}"

    def ends_main(self, kind: str) -> signal.Signals | None:
        """Return the signal that is to end the main process if a process of a kind is hit."""
        target = kind if self.to == ITSELF else self.to
        last = self.then or self.first
        return last if target == MAIN and last != CONT else None


MOVES = {
    Move(KILL): 4,
    Move(TERM): 2,
    Move(INT): 2,
    Move(STOP, CONT): 1,
    Move(STOP, KILL): 1,
    Move(STOP, KILL, MAIN): 1,
    Move(STOP, INT, MAIN): 1,
}  # with weights
STRIKES = {1: 4, 2: 4, 3: 2}  # in one sitting
SITTINGS = (2, 5)  # that are disturbed, in one round
LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True)
class Strike:
    """One move."""

    kind: str  # of the process that is hit
    move: Move
    after_s: float  # since a process of the kind was first seen
    pause_s: float
    choice: float  # which of several, 0 to 1


def draw(rng: Random, scenario: Scenario, wall_s: float) -> list[list[Strike]]:
    """Return the strikes of each sitting of a round; early moments are likelier than late ones.

    Args:
        rng: source of randomness.
        scenario: what is run.
        wall_s: how long it takes if it is not disturbed.
    """
    sittings = []
    for _ in range(rng.randint(*SITTINGS)):
        (count,) = rng.choices(list(STRIKES), list(STRIKES.values()))
        sittings.append([_strike(rng, scenario, wall_s) for _ in range(count)])
    return sittings


def _strike(rng: Random, scenario: Scenario, wall_s: float) -> Strike:
    kind = rng.choice(scenario.kinds)
    moves = {move: weight for move, weight in MOVES.items() if kind != move.to}
    (move,) = rng.choices(list(moves), list(moves.values()))
    # Most of a command's time passes before its workers are up, and then little is left.
    after_s = (0.7 if kind == MAIN else 0.35) * wall_s * rng.random() ** 2
    return Strike(kind, move, after_s, LONGEST_PAUSE_S * rng.random(), rng.random())
