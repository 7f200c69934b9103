"""The hyper-parameters that the search at N = 1 chose: read from and written to TOML.

A file has a table per preset and algorithm, and one for each model size with a choice of its own::

    [tiny.ppo]
    learning_rate = 5e-05
    algorithm_params = { kl_coef = 0.4 }
    metric = "area"                  # under the learning curve; "final" win rate in older files
    value = 0.88                     # of the metric, mean over tuning seeds
    standard_error = 0.003           # of the value, over seeds
    at_edge = ["learning_rate"]      # at an end of what was tried: a better value may lie beyond
    beyond_grid = ["kl_coef"]        # found where the search went on beyond an end of its grid
    tied_with = ["kl_coef = 0.2"]    # other choices that the metric cannot tell from it

    ["tiny/0.4m".ppo]
    learning_rate = 2.5e-05
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w

from bench.errors import UserError
from bench.records import store

RECORDED = Path(__file__).with_name("tuned.toml")
Metric = Literal["area", "final"]  # under the learning curve; win rate after the last update


LISTS = ("at_edge", "beyond_grid", "tied_with")


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The choice for one algorithm at one preset and model size."""

    learning_rate: float
    algorithm_params: Mapping[str, Any] = field(default_factory=dict)
    metric: Metric = "final"
    value: float | None = None
    standard_error: float | None = None
    at_edge: tuple[str, ...] = ()
    beyond_grid: tuple[str, ...] = ()
    tied_with: tuple[str, ...] = ()

    @property
    def remarks(self) -> str:
        """Edges and ties of the choice as text, or an empty string."""
        edges = {
            "at the edge of its grid": [n for n in self.at_edge if n not in self.beyond_grid],
            "beyond its grid": [n for n in self.beyond_grid if n not in self.at_edge],
            "beyond its grid and still at the edge": [
                n for n in self.beyond_grid if n in self.at_edge
            ],
        }
        parts = [f"{what}: {', '.join(names)}" for what, names in edges.items() if names]
        if self.tied_with:
            parts.append(f"tied with {', '.join(self.tied_with)}")
        return "; ".join(parts)


Choices = dict[str, dict[str, Tuned]]  # by ``Preset.key_of``, by algorithm


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
    if (metric := entry.get("metric", "final")) not in get_args(Metric):
        raise ValueError(f"metric = {metric!r}: allowed are {', '.join(get_args(Metric))}")
    return Tuned(**{**entry, **{name: tuple(entry.get(name, ())) for name in LISTS}})


def _plain(entry: Tuned) -> dict[str, Any]:
    """Return the entry that is written for a choice, without what is at its default."""
    plain = asdict(entry) | {name: [*getattr(entry, name)] for name in LISTS}
    return {name: value for name, value in plain.items() if value not in ([], None, "final")}
