"""One reproduction as it is shown, and the tables that REPORT.md and report.html share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.config import RunConfig
from bench.experiments.preset import Preset
from plots.analysis import stats, targets
from plots.analysis.claims import Verdict
from plots.analysis.frames import Record
from reproductions.reproduction import Reproduction

TEXTS = {  # above a figure's table
    "fig_sync_vs_async": (
        "Times are medians per update, of all seeds; `speed_up` and `ideal` are against the "
        "synchronous run on the same cores, `speed_up_whole` is against the one on all cores. "
        "`lost` is in seconds per update."
    ),
    "fig_schedule": "The schedule, measured:",
    "fig_throughput": "What was aimed for, and whether it is met (`own` against `series`):",
    "ablation_lr_schedule": (
        "What the effects become when the rate is stepped once per round, as the authors do "
        "(`explained`: per round minus per update, paired by seed)."
    ),
    "table_math": (
        "`pass_at_1`: share of problems with the right answer; `train_s`: all updates at the "
        "median one; `equal_groups`: prompts whose completions are all right or all wrong. "
        "`async_only`, `sync_only`: problems that one of a pair of runs solves alone, with "
        "McNemar's test; `tost_p`: that the two are further apart than .02, over seeds."
    ),
    "table_sft": "Before RL:",
    "table_chatbot": (
        "Win rates with 95% intervals over seeds, as they are and at equal length; mean length of "
        "answers in tokens; training time without evaluation."
    ),
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """What is shown of one reproduction.

    Attributes:
        one: the reproduction.
        preset: of its runs.
        runs: its grid; empty where something else is measured.
        record: what was found and judged.
        drawn: the same, with the runs of another directory that are drawn beside it.
        source: the directory that the record was read from.
        judged: the verdicts, in the order of the claims.
        table: the reproduction's own, as it is written to a file; None: it has none.
        figure: the SVG file, if there is one.
        compared: the user's runs and the record's, see ``comparison.compare``.
        beside: another directory's and the record's, see ``comparison.compare_beside``.
    """

    one: Reproduction
    preset: Preset
    runs: Sequence[RunConfig]
    record: Record
    drawn: Record
    source: Path
    judged: Sequence[Verdict]
    table: pd.DataFrame | None = None
    figure: Path | None = None
    compared: pd.DataFrame | None = None
    beside: pd.DataFrame | None = None

    @property
    def title(self) -> str:
        """The first line of the caption."""
        return self.one.caption.partition("\n")[0]


@dataclass(frozen=True)
class Part:
    """A text and the table below it; either may be missing."""

    text: str
    table: pd.DataFrame | None = None


def parts(section: Section) -> list[Part]:
    """Return the texts and tables of a section, but for the verdicts."""
    table, name = section.table, section.one.name
    if table is None or table.empty:
        return []
    if name != "fig_offpolicy_robustness":
        return [Part(TEXTS.get(name, ""), table)]
    last = section.drawn.curves["step"].max()
    return [
        Part(_ceiling(section.drawn), _win_rates(section.drawn, table)),
        Part(
            "Updates to half of the best gain on fresh data, median over seeds; "
            f"`> {last}`: not there when training ended.",
            _times(section.drawn),
        ),
    ]


def _ceiling(record: Record) -> str:
    if record.ceiling is None:
        return "The ceiling of the win rate, what a perfect policy would have, is unknown."
    return (
        f"The ceiling of the win rate, what a perfect policy would have, is {record.ceiling:.5f}."
    )


def _win_rates(record: Record, tolerances: pd.DataFrame) -> pd.DataFrame:
    """Return final win rates by algorithm and N, and the off-policy tolerance."""
    rows = []
    for name, runs in record.final.groupby("algorithm", sort=False):
        n_values = sorted(runs["n"].unique())
        row: dict[str, object] = {"algorithm": f"`{name}`"}
        for n in n_values:
            cell = stats.t_interval(runs[runs["n"] == n]["win_rate"].to_numpy())
            row[f"N = {n}"] = f"{cell.estimate:.3f} ± {cell.hi - cell.estimate:.3f}"
        for outcome, label in (("final", "OPT"), ("area", "OPT of the area")):
            chosen = (tolerances["outcome"] == outcome) & (tolerances["algorithm"] == name)
            found = tolerances[chosen].iloc[0]
            interval = f"{found['opt']:.2f} [{found['lo']:.2f}, {found['hi']:.2f}]"
            row[label] = found["note"] or interval
        rows.append(row)
    return pd.DataFrame(rows)


def _times(record: Record) -> pd.DataFrame:
    """Return the median time to target by algorithm and N."""
    found = targets.updates_to_target(record)
    rows = []
    for name, runs in found.groupby("algorithm", sort=False):
        by_n = runs.groupby("n")
        times = {
            f"N = {n}": targets.median_text(cell["updates"], cell["last"].max()) for n, cell in by_n
        }
        rows.append({"algorithm": f"`{name}`", **times})
    return pd.DataFrame(rows)


def tuned(source: Path, preset: Preset) -> Part | None:
    """Return the hyper-parameters that were chosen at N = 1; None where no search was recorded."""
    path = source / "tuning.parquet"
    if not path.exists():
        return None
    trials = pd.read_parquet(path)
    chosen = trials[trials["chosen"]].drop(columns=["chosen", "tied"], errors="ignore")
    choices = [
        preset.choice(row["algorithm"], row.get("model")) for row in chosen.to_dict("records")
    ]
    table = chosen.assign(remarks=[entry.remarks or "-" if entry else "-" for entry in choices])
    tie = (
        "trial whose mean area under the learning curve is within two standard errors of the "
        "difference over seeds"
        if "area" in trials
        else "neighbour on the grid whose mean win rate is within two standard errors"
    )
    text = (
        f"{len(trials)} trials, all in `{path.name}`; win rate on the tuning split. A tie is a "
        f"{tie}."
    )
    return Part(text, table)
