"""Printing of verdicts and of the comparison between the user's and the recorded runs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console

from bench.config import RunConfig
from bench.experiments.progress import say
from bench.experiments.tables import print_frame
from plots.analysis.claims import Verdict
from plots.analysis.frames import Record
from reproductions.comparison import cell_name


def print_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Print of each claim a line for the sentence, one for verdict and estimate, and the rest.

    ``MDE`` is the minimum detectable effect, ``worst seed`` the effect that is least as claimed.
    ``p (Holm)`` is that of "not as claimed", adjusted for the claims of its family.
    """
    say(console, "Verdicts on the paper's claims\n")
    for v in verdicts:
        cells = verdict_cells(v)
        numbers = [cells["unit"], f"{cells['seeds']} seeds"]
        numbers += [f"{name} {cells[name]}" for name in ("MDE", "p (Holm)", "worst seed")]
        _say_wrapped(console, f"{v.claim.id} {v.claim.sentence}", "", "bold")
        _say_wrapped(console, f"{cells['verdict']}, estimate {cells['estimate']}", "  ")
        if cells["reason"]:
            _say_wrapped(console, cells["reason"], "    ")
        _say_wrapped(console, "; ".join(numbers), "    ", "dim")


def _say_wrapped(console: Console, text: str, indent: str, style: str | None = None) -> None:
    """Print a paragraph as wide as the console."""
    lines = textwrap.wrap(
        text, console.width, initial_indent=indent, subsequent_indent="    ", break_on_hyphens=False
    )
    console.print("\n".join(lines), style=style, markup=False, highlight=False)


def verdict_cells(v: Verdict) -> dict[str, str]:
    """Return what is shown of a verdict, as text."""
    published = v.claim.published
    return {
        "claim": f"{v.claim.id} {v.claim.sentence}",
        "verdict": v.text,
        "reason": v.reason,
        "estimate": interval_text(v.interval.estimate, v.interval.lo, v.interval.hi),
        "unit": v.claim.unit,
        "MDE": "none" if math.isnan(v.mde) else f"{v.mde:.4f}",
        "worst seed": "none" if v.worst_seed is None else f"{v.worst:+.4f} (seed {v.worst_seed})",
        "p (Holm)": "none" if v.p_holm is None else f"{v.p_holm:.2g}",
        "published": "-" if published is None else f"{published:+.4f}",
        "seeds": str(v.interval.n),
    }


def print_comparison(console: Console, compared: pd.DataFrame) -> None:
    """Say in a line that all runs are identical to the record, or print the cells that are not.

    Of those it says whether the difference is within what the spread of seeds explains.
    """
    seeds, identical = int(compared["seeds"].sum()), int(compared["identical"].sum())
    if not seeds:
        say(console, "The record has none of these runs to compare with.")
        return
    say(console, f"Compared with the record: {identical} of {seeds} runs are identical.")
    other = compared[compared["identical"] < compared["seeds"]]
    if len(other):
        title = "Final win rates of the cells that differ from the record"
        _print_cells(console, other, ["seeds", "identical"], title)


def print_beside(console: Console, compared: pd.DataFrame) -> None:
    """Print the runs of another directory and how they differ from those of the same setting."""
    title = "Its final win rates against those of the same setting here"
    _print_cells(console, compared, ["seeds", "win_rate"], title)


def _print_cells(
    console: Console, compared: pd.DataFrame, columns: Sequence[str], title: str
) -> None:
    rows = [
        {
            **{name: row[name] for name in ["cell", *columns]},
            "mine - recorded": interval_text(row["difference"], row["lo"], row["hi"]),
            "spread": row["spread"],
            "verdict": row["verdict"],
        }
        for row in compared.to_dict("records")
    ]
    print_frame(console, pd.DataFrame(rows), title)


def say_what_is_missing(
    console: Console,
    record: Record,
    runs: Sequence[RunConfig],
    arms: Mapping[str, str] | None = None,
) -> None:
    """Name, in a line each, the cells of a grid without a run and the runs that diverged."""
    cells = {run.config_hash(): run for run in runs}
    there = set(record.final["config_hash"])
    missing = [cell_name(config, arms) for key, config in cells.items() if key not in there]
    lost = record.final[record.final["status"] == "diverged"]
    diverged = [
        f"{cell_name(cells[key], arms)} seed {seed}" if key in cells else f"{key} seed {seed}"
        for key, seed in zip(lost["config_hash"], lost["seed"], strict=True)
    ]
    if missing:
        say(console, f"Not run: {len(missing)} of {len(cells)} cells: {_some(missing)}")
    if diverged:
        say(console, f"Diverged: {len(diverged)} of {len(record.final)} runs: {_some(diverged)}")


def say_what_is_mixed(console: Console, rows: pd.DataFrame) -> None:
    """Say in a line if the code that made runs, or rows of benchmarks, differs or is unknown."""
    revisions, torch = (
        sorted(rows[name].fillna("unknown").unique()) for name in ("git_revision", "torch")
    )
    dirty = int(rows["git_dirty"].fillna(value=True).astype(bool).sum())
    parts = []
    if len(revisions) > 1:
        parts.append(f"{len(revisions)} revisions ({_some([r[:7] for r in revisions])})")
    if dirty:
        parts.append(f"uncommitted changes in {dirty} of {len(rows)}")
    if len(torch) > 1:
        parts.append(f"torch {', '.join(torch)}")
    if parts:
        say(console, f"Code: {'; '.join(parts)}")


def _some(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def interval_text(estimate: float, lo: float, hi: float) -> str:
    """Return an estimate and its interval as text; either may be missing."""
    if math.isnan(estimate):
        return "-"
    if math.isnan(lo):
        return f"{estimate:+.4f}"
    return f"{estimate:+.4f} [{lo:+.4f}, {hi:+.4f}]"
