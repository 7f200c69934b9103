"""Figures as part of a page: SVG elements whose ids are their own."""

from __future__ import annotations

import re
from html import escape

ROOT = re.compile(r"<svg\b[^>]*>")
SIZE = re.compile(r'\s(?:width|height|version|xmlns(?::xlink)?)="[^"]*"')
# The style that matplotlib writes is one for every element: on a page it would be for those of
# the page too. The page's own style sheet has it for figures.
DROPPED = re.compile(
    r"<metadata>.*?</metadata>|<!--.*?-->|<defs>\s*<style\b[^>]*>[^<]*</style>\s*</defs>", re.DOTALL
)
IDS = re.compile(r'(\bid="|url\(#|href="#)')
SPACE = re.compile(r"\s*\n\s*")


def inline(text: str, name: str, label: str) -> str:
    """Return an SVG file of matplotlib's as an element of an HTML page.

    It has no size but its proportions, is named ``label`` for those who cannot see it, and its ids
    start with ``name``: those of two figures are the same otherwise.

    Raises:
        ValueError: the text has no SVG element.
    """
    found = ROOT.search(text)
    if found is None:
        raise ValueError("no <svg> element")
    root = SIZE.sub("", found.group())
    body = DROPPED.sub("", text[found.end() :])
    whole = f'{root[:-1]} role="img" aria-label="{escape(label)}">{body}'
    return SPACE.sub("\n", IDS.sub(rf"\g<1>{name}-", whole)).strip()
