"""What the storm did and what it found, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .plan import MOVES
from .processes import ENGINE, MAIN, TRAINER, WORKER

KINDS = (MAIN, WORKER, ENGINE, TRAINER)
FAULTS = ("changed numbers", "orphans", "files left", "waits too long", "wrong endings")

Rows = list[list[str]]


@dataclass
class Tally:
    """Counts; each fault has a line that says where it was seen."""

    rounds: Counter[str] = field(default_factory=Counter)  # by scenario
    sittings: int = 0
    strikes: Counter[tuple[str, str]] = field(default_factory=Counter)  # by kind and move
    faults: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    def fault(self, what: str, where: str, count: int = 1) -> None:
        """Note a fault."""
        self.faults[what] += count
        self.lines.append(f"{what}: {where}")

    def strike_rows(self) -> Rows:
        """Return one row per move, one column per kind of process."""
        rows = [["signals", *KINDS, "all"]]
        for move in map(str, MOVES):
            counts = [self.strikes[kind, move] for kind in KINDS]
            rows.append([move, *map(str, counts), str(sum(counts))])
        sums = [sum(n for (kind, _), n in self.strikes.items() if kind == one) for one in KINDS]
        return [*rows, ["all", *map(str, sums), str(sum(sums))]]

    def fault_rows(self) -> Rows:
        """Return one row per kind of fault."""
        return [["fault", "count"], *([name, str(self.faults[name])] for name in FAULTS)]

    def text(self) -> str:
        """Return rounds and commands in one line."""
        each = ", ".join(f"{name} {count}" for name, count in sorted(self.rounds.items()))
        return f"{self.rounds.total()} rounds ({each}), {self.sittings} commands disturbed"


def markdown(rows: Rows) -> str:
    """Return a table as Markdown."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    rule = "|".join(f" {'-' * width} " for width in widths)
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    return f"| {' | '.join(cells)} |"
