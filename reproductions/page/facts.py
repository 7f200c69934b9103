"""What the page says, as plain data: the same that lies in it as JSON.

Numbers have six significant digits, so that the last ones, which differ between machines, do not
change the page.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import pandas as pd

from bench.paths import ROOT
from plots.analysis import flip, ranking
from plots.analysis.claims import Verdict
from plots.analysis.frames import OUTCOMES
from reproductions.comparison import summary
from reproductions.page.section import Part, Section, parts
from reproductions.report import verdict_cells

PACKAGES = ("python", "torch", "transformers", "trl")
EVALUATED = ["run_id", "step", *OUTCOMES]  # what is hashed of the runs


def section_facts(section: Section) -> dict[str, Any]:
    """Return what the page says of one reproduction."""
    rows = section.record.throughput if section.record.final.empty else section.record.final
    title, _, caption = section.one.caption.partition("\n")
    compared = {"compared": section.compared, "beside": section.beside}
    return {
        "name": section.one.name,
        "title": title,
        "caption": [" ".join(text.split()) for text in caption.strip().split("\n\n")],
        "sentence": sentence(section),
        "source": where(section.source),
        "rounds": section.record.final.empty,  # of a benchmark are the replicates, not seeds
        "command": command(section),
        "provenance": provenance(section, rows),
        "remarks": list(section.record.remarks),
        "claims": [claim_facts(v) for v in section.judged],
        "tables": [table_facts(part) for part in parts(section)],
        **{
            key: None if frame is None or frame.empty else table_facts(Part(summary(frame), frame))
            for key, frame in compared.items()
        },
    }


def sentence(section: Section) -> str:
    """Return what a figure shows, in numbers, and whether its ranking is decisive."""
    record = section.record
    if record.final.empty:
        least = int(record.throughput["rounds"].min())
        text = (
            f"Medians of at least {least} rounds on one machine: they are replicates of the "
            "measurement, not of the experiment, so that the ranking is this machine's."
        )
        if section.table is not None and "met" in section.table:
            text += f" {section.table['met'].sum()} of {len(section.table)} targets are met."
    else:
        seeds = record.final["seed"].nunique()
        text = f"{record.final['run_id'].nunique()} runs, {seeds} seed{'s' * (seeds != 1)}."
        ranked = ranking.rank(section.one.ranked(record), section.one.ranks)
        text += f" {ranked.sentence}" if ranked else " There is no ranking."
    if section.judged:
        counts = pd.Series([v.status for v in section.judged]).value_counts(sort=False)
        said = ", ".join(f"{count} {status}" for status, count in counts.items())
        text += f" Claims: {said}."
    return text


def claim_facts(v: Verdict) -> dict[str, Any]:
    """Return what a result card says."""
    claim = v.claim
    return {
        "id": claim.id,
        "sentence": claim.sentence,
        "source": claim.source,
        "definition": " ".join(claim.definition.split()),
        "verdict": v.text,
        "status": v.status,
        "reason": v.reason,
        "estimate": number(v.interval.estimate),
        "lo": number(v.interval.lo),
        "hi": number(v.interval.hi),
        "level": v.interval.level,
        "unit": claim.unit,
        "margin": claim.margin,
        "margin_reason": " ".join(claim.margin_reason.split()),
        "mde": number(v.mde),
        "p": number(v.p),
        "p_holm": number(v.p_holm),
        "worst": number(v.worst),
        "worst_seed": v.worst_seed,
        "published": claim.published,
        "published_seeds": None if claim.published is None else claim.published_seeds,
        "seeds": v.interval.n,
        "flip": flip.sentence(v),
        "text": verdict_cells(v),
    }


def table_facts(part: Part) -> dict[str, Any]:
    """Return a text and its table."""
    frame = pd.DataFrame() if part.table is None else part.table
    return {
        "text": part.text,
        "columns": [str(name).replace("_", " ") for name in frame.columns],
        "rows": [[_value(value) for value in row] for row in frame.itertuples(index=False)],
    }


def provenance(section: Section, rows: pd.DataFrame) -> dict[str, Any]:
    """Return what made the rows: revisions, machines, packages, and the hash of the data.

    ``sha256`` is that of all evaluations of the runs as CSV, or of the benchmarks' rows: the same
    numbers have the same hash wherever they lie.
    """
    dirty = rows["git_dirty"].fillna(value=True).astype(bool).map({True: "+", False: ""})
    cores = rows["cores"].map(lambda count: "?" if pd.isna(count) else f"{count:g}")
    cpu = rows["host_cpu"].fillna("unknown processor") + ", " + cores + " cores"
    machine = cpu.where(rows["device"] == "cpu", rows["device"].fillna("unknown") + ", " + cpu)
    curves = section.record.curves
    if section.record.final.empty:
        data = rows.sort_values(["session", "benchmark", "series"])
    else:
        data = curves[[name for name in EVALUATED if name in curves]]
        data = data.drop_duplicates(["run_id", "step"]).sort_values(["run_id", "step"])
    return {
        "revisions": _different(rows["git_revision"].fillna("unknown").str[:10] + dirty),
        "machines": _different(machine),
        "packages": {name: _different(rows[name].fillna("none")) for name in PACKAGES},
        "constraints": _different(rows["constraints_hash"].fillna("unknown")),
        "sha256": hashlib.sha256(data.to_csv(index=False).encode()).hexdigest(),
    }


def command(section: Section) -> str:
    """Return the command that makes the runs of a section again."""
    preset, final = section.preset, section.record.final
    parts = [f"python reproductions/{section.one.name}.py --preset {preset.name}"]
    if preset.task is not None:
        parts.append(f"--task {preset.task}")
    if len(final) and section.one.every_seed:
        seeds = sorted({int(seed) for seed in final["seed"]})
        every = seeds == list(range(len(seeds)))
        parts.append(f"--seeds {len(seeds) if every else ','.join(map(str, seeds))}")
    return " ".join(parts)


def where(path: Path) -> str:
    """Return a directory as the page names it: within the project by its path there."""
    resolved = path.resolve()
    return str(resolved.relative_to(ROOT)) if resolved.is_relative_to(ROOT) else path.name


def number(value: float | None) -> float | None:
    """Return a number with six significant digits; None where there is none."""
    return None if value is None or math.isnan(value) else float(f"{value:.6g}")


def _value(value: Any) -> Any:
    """Return a cell of a table as JSON has it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, bool | int) else str(value)


def _different(values: pd.Series[str]) -> list[str]:
    return sorted({str(value) for value in values})
