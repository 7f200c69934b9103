"""What the pages point to is there: files, headings and the scripts of their commands."""

import re
from pathlib import Path

import pytest

from bench.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
NAMED = re.compile(r"`((?:bench|plots|reproductions|tests|docs|results/reference)/[\w./]+)`")
ADDED = ("online_hinge", "transformers_generate", "sorting", "fig_proxy_reward")  # by the recipes


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_and_the_scripts_of_commands_exist(page):
    text = page.read_text(encoding="utf-8")
    modules = re.findall(r"python -m (bench[\w.]*)", text)
    scripts = re.findall(r"python (reproductions/\w+\.py)", text)
    wanted = [*NAMED.findall(text), *scripts, *(f"{m.replace('.', '/')}.py" for m in modules)]
    missing = [path for path in wanted if not (ROOT / path).exists()]
    assert [path for path in missing if not any(name in path for name in ADDED)] == []
