"""The page report.html: figures, result cards and tables in one file that needs no other."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from bench.experiments.preset import Preset
from plots.analysis import stats
from reproductions.page.facts import number, section_facts, table_facts, where
from reproductions.page.section import Section, tuned
from reproductions.page.svg import inline

PAGE = "report.html"
HERE = Path(__file__).parent
CODE = re.compile(r"``?([^`]+)``?")
LEADING = re.compile(r"^[<> ]*([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w.])")
SUMMARY = ("claim", "verdict", "sentence", "estimate", "MDE", "published", "seeds")
SWEPT = "fig_offpolicy_robustness"  # whose runs stand beside published ones


def page(sections: Sequence[Section], preset: Preset) -> str:
    """Return the page, the same for the same record.

    Args:
        sections: in the order in which they are shown.
        preset: of their runs.

    Raises:
        UserError: a figure or a table cannot be read.
    """
    sources = list(dict.fromkeys(section.source for section in sections))
    searches = [found for source in sources if (found := tuned(source, preset)) is not None]
    facts: dict[str, Any] = {
        "preset": preset.name,
        "places": [where(source) for source in sources],
        "verdicts": preset.verdicts,
        "sections": [section_facts(section) for section in sections],
        "beyond": beyond(sections, preset),
        "tuned": [table_facts(search) for search in searches],
    }
    figures = {
        section.one.name: Markup(
            inline(section.figure.read_text(encoding="utf-8"), section.one.name, str(section.title))
        )
        for section in sections
        if section.figure is not None
    }
    claims = [claim for one in facts["sections"] for claim in one["claims"]]
    summary = {"columns": SUMMARY, "rows": claims}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "capital": lambda text: text[:1].upper() + text[1:],
        "cell": cell,
        "code": code,
        "key": key,
        "sortable": sortable,
        "twin": twin,
    }
    return environment.get_template("report.html.jinja").render(
        **facts,
        figures=figures,
        facts=facts,
        summary=summary,
        counts=_counts(summary["rows"]),
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "report.js").read_text(encoding="utf-8")),
    )


def _counts(claims: Sequence[dict[str, Any]]) -> str:
    counts = Counter(claim["status"] for claim in claims)
    said = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    return f"{len(claims)} claims: {said}."


def beyond(sections: Sequence[Section], preset: Preset) -> dict[str, Any]:
    """Return what stale data cost here and in published studies, with the number of seeds."""
    found = tomllib.loads((HERE / "beyond.toml").read_text(encoding="utf-8"))
    rows = [row for one in sections if one.one.name == SWEPT for row in _own(one, preset)]
    columns = list(found["study"][0])
    rows += [[study.get(name) for name in columns] for study in found["study"]]
    return {"text": found["text"], "columns": columns, "rows": rows}


def _own(section: Section, preset: Preset) -> list[list[Any]]:
    """Return a row for each algorithm: from the smallest to the largest N of the record."""
    rows: list[list[Any]] = []
    for name in section.record.final["algorithm"].unique():
        n = section.record.n_values(name)
        if len(n) < 2:
            continue
        found = section.record.by_n(name, [n[0], n[-1]])
        if found.empty:
            continue
        change = stats.t_interval(found[n[-1]] - found[n[0]])
        shown = f"{change.estimate:+.3f} [{change.lo:+.3f}, {change.hi:+.3f}]"
        rows.append([
            f"this suite, preset {preset.name}", f"`{name}`", "gold win rate",
            "N, mini-batches per round", n[0], number(round(float(found[n[0]].mean()), 3)), n[-1],
            number(round(float(found[n[-1]].mean()), 3)), shown, change.n,
        ])  # fmt: skip
    return rows


def code(text: str) -> Markup:
    """Return a text as HTML, what stands between backticks as code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))


def cell(value: object) -> Markup:
    """Return what a cell of a table shows."""
    if value is None:
        return Markup("-")
    if isinstance(value, bool):
        return Markup("yes" if value else "no")
    return code(f"{value:.4g}" if isinstance(value, float) else str(value))


def key(value: object) -> str | None:
    """Return the number that a cell is sorted by: its own, or the one that its text starts with.

    "" where nothing is there; None: the text has no number.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        found = LEADING.match(value)
        return found.group(1) if found else None
    return f"{value:d}" if isinstance(value, bool) else str(value)


def sortable(rows: Sequence[Sequence[object]]) -> list[list[tuple[object, str | None]]]:
    """Return rows with a key beside each cell; a column is sorted as text if one of it has none."""
    columns = [[key(value) for value in column] for column in zip(*rows, strict=True)]
    columns = [[None] * len(rows) if None in column else column for column in columns]
    return [
        [(value, column[at]) for value, column in zip(row, columns, strict=True)]
        for at, row in enumerate(rows)
    ]


def twin(facts: object) -> Markup:
    """Return data as JSON that may stand in a script element."""
    text = json.dumps(facts, ensure_ascii=False, indent=1, allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
