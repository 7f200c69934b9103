"""CITATION.cff is of this version, and names the paper as the README does."""

import tomllib

import yaml

from bench.paths import ROOT

CITED = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_what_is_cited_is_the_project_as_it_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert CITED["cff-version"] == "1.2.0"
    assert CITED["title"].startswith(project["name"])
    assert (CITED["version"], CITED["license"]) == (project["version"], project["license"])


def test_the_paper_is_that_of_the_readme():
    (paper,) = CITED["references"]
    names = [f"{one['given-names'][0]}. {one['family-names']}" for one in paper["authors"]]
    assert f"The paper: {', '.join(names)}, *{paper['title']}*, ICLR {paper['year']}" in README
    assert paper["identifiers"][0]["value"] in README
