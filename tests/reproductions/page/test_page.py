"""The page without a browser: the committed one, and one of made-up runs."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from bench import paths
from bench.experiments.presets import preset
from bench.records.merge import merge
from bench.staleness import reuse
from reproductions import run as script
from reproductions.fig_offpolicy_ppo import REPRODUCTION as PPO
from reproductions.options import Options
from reproductions.page import render
from reproductions.table_sft import REPRODUCTION as SFT
from tests.bench import fakes

RECORD = paths.record_dir("tiny") / render.PAGE
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Outline(HTMLParser):
    """The elements of a page, which must close in the order in which they were opened."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], {}, []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            at = self.open[-1][1]
            self.texts[at] = self.texts.get(at, "") + data

    def attribute(self, name):
        return [values[name] for _, values in self.elements if name in values]


@pytest.fixture(scope="module")
def text():
    return RECORD.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(text):
    return Outline(text)


def twin(text):
    _, _, after = text.partition('<script type="application/json" id="results">')
    return json.loads(after.partition("</script>")[0])


def test_every_id_is_there_once_and_every_link_leads_to_one(outline):
    ids = outline.attribute("id")
    assert len(ids) == len(set(ids)) > 1000
    links = outline.attribute("href") + outline.attribute("xlink:href")
    assert {link for link in links if not link.startswith("#")} == set()
    assert {link[1:] for link in links} <= set(ids)


def test_it_needs_no_other_file(text, outline):
    assert not re.search(r'https?://|@import|url\((?!#)|\bsrc="', text)
    assert "link" not in {tag for tag, _ in outline.elements}


def test_it_is_small(text):
    assert len(text.encode()) < 3_000_000
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    assert len(script) < 800


def test_every_figure_of_the_record_is_in_it_under_its_name(outline):
    figures = {path.stem for path in (paths.record_dir("tiny") / paths.FIGURES).glob("*.svg")}
    sections = {
        values["id"] for tag, values in outline.elements if tag == "section" and "id" in values
    }
    assert len(figures) == 6
    assert figures <= sections
    labels = [values["aria-label"] for tag, values in outline.elements if tag == "svg"]
    assert len(labels) == 6
    assert all(labels)


def test_a_card_for_each_verdict_and_the_twin_say_what_REPORT_md_says(text, outline):
    """The oracle is the other page, of the same numbers."""
    report = (paths.record_dir("tiny") / "REPORT.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| \*\*(C\S+)\*\* (.*?) \| \*\*(.*?)\*\*.*? \| (\S+ \[.*?\]) \|", report, re.M
    )
    claims = [claim for one in twin(text)["sections"] for claim in one["claims"]]
    assert rows == [
        (claim["id"], claim["sentence"], claim["verdict"], claim["text"]["estimate"])
        for claim in claims
    ]
    assert len(rows) == 35
    cards = [values["id"] for tag, values in outline.elements if tag == "article"]
    assert cards == [row[0] for row in rows]
    shown = re.findall(r'<p class="estimate">(.*?)</p>', text)
    assert shown == [row[3] for row in rows]


def test_the_numbers_of_the_twin_are_those_that_are_shown(text):
    for one in twin(text)["sections"]:
        for claim in one["claims"]:
            lo, hi = f"{claim['lo']:+.4f}", f"{claim['hi']:+.4f}"
            shown = re.findall(r"[+-][\d.]+", claim["text"]["estimate"])
            numbers = [float(number) for number in (claim["estimate"], lo, hi)]
            assert [float(n) for n in shown] == pytest.approx(numbers, abs=1.1e-4)


def write(place, one):
    for cell in one.grid(Options(preset=preset("tiny"), n_values=(1, 2))):
        for seed in range(2):
            fakes.write(place, cell.with_seed(seed))


def test_a_page_of_made_up_runs_says_where_they_differ_from_the_record(results):
    write(results / "made", PPO)
    merge(results / "made", results / "reference" / "tiny")
    write(results / "tiny", PPO)
    page = results / "tiny" / render.PAGE
    arguments = ["--replot", "--n", "1,2", "--seeds", "2"]
    assert script.main([PPO], arguments, page=True) == 0
    text = page.read_text(encoding="utf-8")
    Outline(text)
    one = twin(text)["sections"][0]
    columns, rows = one["compared"]["columns"], one["compared"]["rows"]
    assert columns[:3] == ["cell", "seeds", "identical"]
    assert [row[:3] + row[-1:] for row in rows] == [
        ["0.1m ppo reuse(1) per_update", 2, 2, "identical"],
        ["0.1m ppo reuse(2) per_update", 2, 2, "identical"],
    ]
    assert one["command"] == ("python reproductions/fig_offpolicy_ppo.py --preset tiny --seeds 2")
    assert "<td>identical</td>" in text
    first = page.read_bytes()
    page.unlink()
    assert script.main([PPO], arguments, page=True) == 0
    assert page.read_bytes() == first


def test_runs_of_another_directory_have_their_column(results, tmp_path):
    write(results / "reference" / "tiny", PPO)
    for seed in (0, 1):
        for name in ("ppo", "grpo"):
            run = preset("tiny").run_config(name, reuse(2), seed=seed)
            fakes.write(tmp_path / "mine", run, preset="tiny")
    arguments = ["--replot", "--n", "1,2", "--with", str(tmp_path / "mine")]
    assert script.main([PPO], arguments, page=True) == 0
    text = (results / "tiny" / render.PAGE).read_text(encoding="utf-8")
    Outline(text)
    one = twin(text)["sections"][0]
    assert one["compared"] is None
    assert [row[:2] + row[-1:] for row in one["beside"]["rows"]] == [
        ["grpo (mine) 0.1m reuse(2) per_update", 2, "not in the record"],
        ["ppo (mine) 0.1m reuse(2) per_update", 2, "agrees"],
    ]
    assert "<h3>Your runs beside it</h3>" in text


def test_a_table_alone_has_no_figure_and_no_ranking(results):
    write(results / "tiny", SFT)
    assert script.main([SFT], ["--replot"], page=True) == 0
    text = (results / "tiny" / render.PAGE).read_text(encoding="utf-8")
    outline = Outline(text)
    assert "figure" not in {tag for tag, _ in outline.elements}
    assert twin(text)["sections"][0]["claims"] == []


@pytest.mark.parametrize(
    ("value", "shown", "key"),
    [
        (None, "-", ""),
        (0.123456, "0.1235", "0.123456"),
        (3, "3", "3"),
        (True, "yes", "1"),
        ("0.955 ± 0.002", "0.955 ± 0.002", "0.955"),
        ("> 128 (0 of 5)", "&gt; 128 (0 of 5)", "128"),
        ("-1e-05", "-1e-05", "-1e-05"),
        ("0.4m", "0.4m", None),
        ("a `b` <c>", "a <code>b</code> &lt;c&gt;", None),
    ],
)
def test_what_a_cell_shows_and_is_sorted_by(value, shown, key):
    assert render.cell(value) == shown
    assert render.key(value) == key


def test_a_column_is_sorted_by_numbers_only_if_all_of_it_has_them():
    rows = [["> 64", "0.1m"], [None, "2"]]
    assert render.sortable(rows) == [
        [("> 64", "64"), ("0.1m", None)],
        [(None, ""), ("2", None)],
    ]


def test_the_twin_cannot_end_its_script_element():
    assert render.twin({"a": "</script>&"}) == '{\n "a": "\\u003c/script\\u003e\\u0026"\n}'


def test_to_draw_again_imports_no_torch(tmp_path):
    for table in ("runs", "evals", "steps"):
        shutil.copy(RECORD.with_name(f"{table}.parquet"), tmp_path)
    code = (
        "import sys\n"
        "from reproductions import all, run\n"
        "one = [one for one in all.discover() if one.name == 'fig_offpolicy_ppo']\n"
        "assert run.main(one, ['--replot', '--out', sys.argv[1]], page=True) == 0\n"
        "print('torch' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert (tmp_path / render.PAGE).exists()
