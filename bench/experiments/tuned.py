"""The hyper-parameters that the search at N = 1 chose: read from and written to TOML.

A file has a table per preset and algorithm::

    [tiny.ppo]
    learning_rate = 5e-05
    algorithm_params = { kl_coef = 0.1 }
    at_edge = ["learning_rate"]      # chosen at an end of its grid: a better value may lie beyond
    tied_with = ["kl_coef = 0.05"]   # neighbours that the tuning metric cannot tell from it
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli_w

from bench.errors import UserError
from bench.records import store

RECORDED = Path(__file__).with_name("tuned.toml")


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The choice for one algorithm at one preset."""

    learning_rate: float
    algorithm_params: Mapping[str, Any] = field(default_factory=dict)
    at_edge: tuple[str, ...] = ()
    tied_with: tuple[str, ...] = ()

    @property
    def remarks(self) -> str:
        """Edges and ties of the choice as text, or an empty string."""
        parts = []
        if self.at_edge:
            parts.append(f"at the edge of its grid: {', '.join(self.at_edge)}")
        if self.tied_with:
            parts.append(f"tied with {', '.join(self.tied_with)}")
        return "; ".join(parts)


Choices = dict[str, dict[str, Tuned]]  # by preset, by algorithm


def read_tuned(path: Path) -> Choices:
    """Read a file of choices; a missing file has none.

    Raises:
        UserError: the file is not TOML, or has an entry that is no choice.
    """
    if not path.exists():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return {
            preset: {name: _tuned(entry) for name, entry in entries.items()}
            for preset, entries in tables.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: cannot be read as tuned hyper-parameters: {error}; mend or delete it"
        ) from error


def write_tuned(path: Path, choices: Choices) -> None:
    """Write a file of choices, sorted by preset and algorithm.

    Raises:
        UserError: it cannot be written.
    """
    tables = {
        preset: {name: _plain(entry) for name, entry in sorted(entries.items())}
        for preset, entries in sorted(choices.items())
        if entries
    }
    head = (
        "# Chosen at N = 1 on tuning seeds and the tuning split by `python -m bench.tuning`.\n"
        "# The trials behind a choice are in tuning.parquet beside the results of its preset.\n\n"
    )
    store.write_bytes(path, (head + tomli_w.dumps(tables)).encode())


def _tuned(entry: Mapping[str, Any]) -> Tuned:
    known = {one.name for one in fields(Tuned)}
    if unknown := sorted(set(entry) - known):
        raise ValueError(f"unknown {', '.join(unknown)}; allowed are {', '.join(sorted(known))}")
    rate = entry.get("learning_rate")
    if not isinstance(rate, float) or rate <= 0:
        raise ValueError(f"learning_rate = {rate!r}: must be a number above 0")
    lists = {name: tuple(entry.get(name, ())) for name in ("at_edge", "tied_with")}
    return Tuned(**{**entry, **lists})


def _plain(entry: Tuned) -> dict[str, Any]:
    """Return the entry that is written for a choice, without empty lists."""
    plain = asdict(entry) | {"at_edge": [*entry.at_edge], "tied_with": [*entry.tied_with]}
    return {name: value for name, value in plain.items() if value != []}
