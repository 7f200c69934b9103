import re

import pytest
from matplotlib.figure import Figure

from plots.drawing import style
from reproductions.page.svg import inline


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    figure = Figure(figsize=(2, 1))
    ax = figure.subplots()
    ax.plot([0, 1], [1, 2], marker="o")
    ax.set_title("a < b")
    _, path = style.save(figure, tmp_path_factory.mktemp("svg") / "one")
    return path.read_text()


def ids(text):
    return re.findall(r'\bid="([^"]+)"', text)


def test_ids_of_two_figures_do_not_clash_and_every_reference_has_its_target(drawn):
    one, two = (inline(drawn, name, "label") for name in ("one", "two"))
    assert set(ids(one)).isdisjoint(ids(two))
    assert len(ids(one)) == len(ids(drawn)) > 10
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', one)
    assert used
    assert {a or b for a, b in used} <= set(ids(one))


def test_it_has_proportions_a_name_and_nothing_that_concerns_the_page(drawn):
    text = inline(drawn, "one", 'wide & "high"')
    root = text.partition(">")[0]
    assert 'viewBox="0 0 144 72"' in root
    assert 'role="img" aria-label="wide &amp; &quot;high&quot;"' in root
    assert "width=" not in root
    for word in ("<style", "<metadata", "<?xml", "<!DOCTYPE", "<!--", "http"):
        assert word not in text
    assert text.endswith("</svg>")


def test_what_is_no_figure_is_refused():
    with pytest.raises(ValueError, match="no <svg> element"):
        inline("<p>", "one", "label")
