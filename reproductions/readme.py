"""Writes what the record says into the README: ``python reproductions/readme.py``.

Verdicts, tables and hyper-parameters between the README's two ``results`` marks are generated from
``results/reference/tiny`` and never typed. ``--check`` only says whether they are up to date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pandas as pd

from bench.experiments.presets import preset
from bench.paths import RECORDS, ROOT
from bench.records import store
from plots.analysis import claims, stats
from plots.analysis.frames import Record
from reproductions.all import discover
from reproductions.loading import load
from reproductions.options import Options
from reproductions.report import interval_text
from reproductions.reproduction import CLAIMS

README = ROOT / "README.md"
MARKS = ("<!-- results -->", "<!-- /results -->")
PRESET = "tiny"
TABLES = {  # what stands above the table of a figure
    "fig_sync_vs_async": (
        "Times are medians per update, of all seeds; `speed_up` and `ideal` are against the "
        "synchronous run on the same cores, `speed_up_whole` is against the one on all cores. "
        "`lost` is in seconds per update.",
    ),
    "fig_schedule": ("### The schedule, measured",),
    "fig_throughput": ("What was aimed for, and whether it is met (`own` against `series`):",),
    "ablation_lr_schedule": (
        "### How much is the learning-rate schedule",
        "What the effects become when the rate is stepped once per round, as the authors do "
        "(`explained`: per round minus per update, paired by seed).",
    ),
    "table_sft": ("### Before RL",),
}


def generate() -> str:
    """Return the generated part of the README.

    Raises:
        UserError: the record is missing or cannot be read.
    """
    options = Options(preset=preset(PRESET))
    record_dir = RECORDS / PRESET
    runs = store.read(record_dir, "runs")
    first = runs.iloc[0]
    revisions = runs.sort_values("started_utc")["git_revision"].str[:10].unique()
    parts = [
        f"Preset `{PRESET}`: {len(runs)} runs on {first['host_cpu']} ({first['cores']} cores, one "
        f"thread a run unless timed), torch {first['torch']}, code at "
        f"{', '.join(f'`{revision}`' for revision in revisions)}. Intervals are over seeds. "
        "Verdicts speak of the mechanism at this scale, not of Pythia."
    ]
    for one in discover():
        if one.read is None:
            record = load(record_dir, one.grid(options), options.preset, all_seeds=True)
        elif (measured := one.read(record_dir)) is not None:
            record = measured
        else:
            continue
        if judged := claims.judge(claims.load(CLAIMS), one.name, record, PRESET):
            parts += [f"### `{one.name}`", _verdicts(judged)]
        if one.name == "fig_offpolicy_robustness" and one.tabulate is not None:
            parts.append(_win_rates(record, one.tabulate(record, options)))
        elif one.name in TABLES and one.tabulate is not None:
            parts += [*TABLES[one.name], _markdown(one.tabulate(record, options))]
    parts += ["### Hyper-parameters, as searched at N = 1", _tuned()]
    return "\n\n".join(parts)


def _verdicts(judged: Sequence[claims.Verdict]) -> str:
    rows = [
        {
            "claim": f"**{v.claim.id}** {v.claim.sentence}",
            "verdict": f"**{v.text}**" + (f" ({v.reason})" if v.reason else ""),
            "estimate": interval_text(v.interval.estimate, v.interval.lo, v.interval.hi),
            "unit": v.claim.unit,
            "p (Holm)": f"{v.p_holm:.2g}",
            "published": "-" if v.claim.published is None else f"{v.claim.published:+.4f}",
            "seeds": v.interval.n,
        }
        for v in judged
    ]
    return _markdown(pd.DataFrame(rows))


def _win_rates(record: Record, tolerances: pd.DataFrame) -> str:
    """Return final win rates by algorithm and N, and the off-policy tolerance."""
    rows = []
    by_algorithm = tolerances.set_index("algorithm")
    for name, runs in record.final.groupby("algorithm", sort=False):
        n_values = sorted(runs["n"].unique())
        row: dict[str, object] = {"algorithm": f"`{name}`"}
        for n in n_values:
            cell = stats.t_interval(runs[runs["n"] == n]["win_rate"].to_numpy())
            row[f"N = {n}"] = f"{cell.estimate:.3f} ± {cell.hi - cell.estimate:.3f}"
        found = by_algorithm.loc[str(name)]
        interval = f"{found['opt']:.2f} [{found['lo']:.2f}, {found['hi']:.2f}]"
        row["OPT"] = found["note"] or interval
        rows.append(row)
    return _markdown(pd.DataFrame(rows))


def _tuned() -> str:
    path = RECORDS / PRESET / "tuning.parquet"
    table = pd.read_parquet(path)
    chosen = table[table["chosen"]].drop(columns=["chosen"])
    where = f"`results/reference/{PRESET}/{path.name}`"
    return (
        f"{len(table)} trials, all in {where}; win rate on the tuning split.\n\n{_markdown(chosen)}"
    )


def _markdown(frame: pd.DataFrame) -> str:
    """Return a data frame as a Markdown table."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "-" if pd.isna(value) else f"{value:.4g}"
        return str(value)

    lines = [list(map(str, frame.columns)), ["---"] * len(frame.columns)]
    lines += [[text(value) for value in row] for row in frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check the README; return 1 if a check finds it out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    before = README.read_text(encoding="utf-8")
    head, rest = before.split(MARKS[0])
    tail = rest.split(MARKS[1])[1]
    after = f"{head}{MARKS[0]}\n\n{generate()}\n\n{MARKS[1]}{tail}"
    if options.check:
        return int(before != after)
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
