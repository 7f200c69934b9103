"""The committed page in headless Chromium, on a phone and on a desk."""

import re

import pytest

from bench import paths
from reproductions.page import render
from tests import browser

RECORD = paths.record_dir("tiny") / render.PAGE
WIDTHS = (390, 1280)  # pixels
FIRST = "[...document.querySelectorAll('#summary tbody tr')].map(row => row.cells[0].textContent)"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    program = browser.find()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(browser.NAMES)} is on the PATH")
    page = browser.Browser(program, tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_does_not_scroll_sideways_and_every_figure_is_seen(chromium, width, dark):
    chromium.open(RECORD.as_uri(), width, dark=dark)
    assert chromium.run("innerWidth") == width
    chromium.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert chromium.run("document.documentElement.scrollWidth") == width
    boxes = chromium.run(
        "[...document.querySelectorAll('figure svg')].map(figure => {"
        "const box = figure.getBoundingClientRect(); return [box.x, box.width, box.height]})"
    )
    assert len(boxes) == 6
    for x, shown, height in boxes:
        assert 0 <= x < width / 8
        assert shown >= 36 * 16  # on a phone its box scrolls
        assert height > 100


@pytest.mark.parametrize("width", WIDTHS)
def test_what_a_figure_refers_to_is_drawn(chromium, width):
    """A marker whose definition is missing has no box."""
    chromium.open(RECORD.as_uri(), width)
    empty = (
        "[...document.querySelectorAll('svg use')].filter("
        "use => !document.querySelector(use.getAttribute('xlink:href'))).length"
    )
    assert chromium.run(empty) == 0
    assert chromium.run("document.querySelectorAll('svg use').length") > 1000


def test_a_click_sorts_by_number_and_another_the_other_way(chromium):
    chromium.open(RECORD.as_uri(), 1280)
    recorded = chromium.run(FIRST)
    heading = "document.querySelectorAll('#summary thead th')[3]"
    order = []
    for expected in ("ascending", "descending"):
        chromium.run(f"{heading}.querySelector('button').click()")
        assert chromium.run(f"{heading}.ariaSort") == expected
        order.append(chromium.run(FIRST))
    assert sorted(order[0]) == sorted(recorded)
    assert order[0] == order[1][::-1] != recorded
    # Of all estimates in REPORT.md the least is that of C2b-64-area, the highest that of C2b.
    assert (order[0][0], order[0][-1]) == ("C2b-64-area", "C2b")


def test_what_is_missing_is_last_however_it_is_sorted(chromium):
    chromium.open(RECORD.as_uri(), 1280)
    column = (
        "[...document.querySelectorAll('#summary tbody tr')].map(row => row.cells[5].textContent)"
    )
    missing = chromium.run(column).count("-")
    for sign in (1, -1):
        chromium.run("document.querySelectorAll('#summary thead button')[5].click()")
        shown = chromium.run(column)
        assert shown[-missing:] == ["-"] * missing
        numbers = [sign * float(text) for text in shown[:-missing]]
        assert numbers == sorted(numbers)


def test_it_reads_without_script(chromium):
    chromium.open(RECORD.as_uri(), 390, script=False)
    assert chromium.run("document.querySelectorAll('th button').length") == 0
    assert chromium.run("document.querySelectorAll('article').length") == 35
    assert chromium.run("document.querySelector('details').open") is False


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(chromium, dark):
    """WCAG's contrast: (L1 + .05) / (L2 + .05) of relative luminances, at least 4.5."""
    chromium.open(RECORD.as_uri(), 1280, dark=dark)
    pairs = chromium.run(
        "[...document.querySelectorAll('p, h1, h2, h3, a, td, th, dt, dd, summary, figcaption,"
        " small, caption, .chip')].map(one => { let behind = one; while (behind &&"
        " getComputedStyle(behind).backgroundColor == 'rgba(0, 0, 0, 0)') behind ="
        " behind.parentElement; return getComputedStyle(one).color + '/' +"
        " getComputedStyle(behind).backgroundColor })"
    )
    for pair in set(pairs):
        light, dim = sorted(map(luminance, pair.split("/")), reverse=True)
        assert (light + 0.05) / (dim + 0.05) >= 4.5, pair


def luminance(colour):
    parts = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
