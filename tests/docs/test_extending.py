"""The recipes of docs/extending.md are applied to a copy of the project, to the letter, and run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.paths import ROOT

BLOCK = re.compile(
    r"^<!-- (?P<action>file|append to|insert into): (?P<path>\S+?)(?:, below: (?P<line>.+?))? -->\n"
    r"```\w+\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
COPIED = ("bench", "plots", "reproductions", "tests", "pyproject.toml")


def apply(page: str, root: Path) -> list[str]:
    """Do what each marked block of a page says; return the actions."""
    done = []
    for block in BLOCK.finditer(page):
        path = root / block["path"]
        match block["action"]:
            case "file":
                assert not path.exists(), f"{path} is there already"
                path.write_text(block["text"])
            case "append to":
                path.write_text(path.read_text() + block["text"])
            case "insert into":
                lines = path.read_text().splitlines(keepends=True)
                (at,) = (i for i, line in enumerate(lines) if line.strip() == block["line"])
                path.write_text("".join([*lines[: at + 1], block["text"], *lines[at + 1 :]]))
        done.append(f"{block['action']} {block['path']}")
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, root / name, ignore=ignored)
        else:
            shutil.copy(source, root / name)
    (root / "results").mkdir()
    (root / "results" / "reference").symlink_to(ROOT / "results" / "reference")
    apply((ROOT / "docs" / "extending.md").read_text(encoding="utf-8"), root)
    return root


def run(project, *arguments):
    """Run Python in the copy; return what it printed."""
    settings = {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={**os.environ, **settings, "MPLBACKEND": "agg", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def quick_commands():
    """Return the page's Python commands that take seconds."""
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("python ")]
    return [line for line in lines if "--preset smoke" in line or "reward.py --replot" in line]


def test_the_page_has_the_files_that_its_recipes_need():
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    found = [f"{block['action']} {block['path']}" for block in BLOCK.finditer(page)]
    assert found == [
        "file bench/algorithms/online_hinge.py",
        "file tests/bench/algorithms/test_online_hinge.py",
        "file bench/engines/transformers_generate.py",
        "insert into bench/engines/__init__.py",
        "file bench/tasks/sorting.py",
        "insert into bench/tasks/__init__.py",
        "file tests/bench/tasks/test_sorting.py",
        "file reproductions/fig_proxy_reward.py",
        "append to reproductions/claims.toml",
    ]
    assert page.count("<!--") == len(found)  # no marker is misspelt


def test_the_algorithm_and_the_task_are_listed(project):
    program = (
        "import bench; from bench.algorithms import ALGORITHMS; from bench.tasks import TASKS; "
        "print(bench.__file__, 'online_hinge' in ALGORITHMS, 'sorting' in TASKS)"
    )
    assert run(project, "-c", program).split() == [
        str(project / "bench" / "__init__.py"), "True", "True",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_tests_of_the_recipes_pass_and_those_for_every_algorithm_and_engine(project):
    printed = run(
        project,
        *("-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider"),
        "tests/bench/algorithms/test_online_hinge.py",
        "tests/bench/algorithms/test_every_algorithm.py",
        "tests/bench/engines/test_contract.py",
        "tests/bench/tasks/test_sorting.py",
        *("-k", "hinge or transformers or sorting"),
    )
    passed = re.findall(r"^PASSED (\S+)", printed, re.MULTILINE)
    assert sum("test_online_hinge.py" in name for name in passed) == 3
    assert sum("test_sorting.py" in name for name in passed) == 6
    assert sum("test_every_algorithm.py" in name for name in passed) >= 6
    assert sum("test_contract.py" in name for name in passed) >= 13


def test_there_are_quick_commands_for_every_recipe_but_the_corrections():
    words = " ".join(quick_commands())
    for name in ("online_hinge", "transformers", "sorting", "fig_proxy_reward"):
        assert name in words


@pytest.mark.slow
@pytest.mark.parametrize("command", dict.fromkeys(quick_commands()))
def test_a_quick_command_of_the_page_does_what_it_says(project, command):
    printed = run(project, *shlex.split(command)[1:])
    if "bench.train" in command:
        assert re.match(r"\w+ \S+ seed 0: win rate 0\.\d{4}, KL ", printed.splitlines()[-1])
    if "lag(1)" in command:
        assert "staleness 0.75 (mean) 1 (maximum)" in printed  # 0, 1, 1, 1
    if "sorting" in command:
        runs = pd.concat(map(pd.read_parquet, (project / "results/smoke/runs").glob("*")))
        assert "sorting" in set(runs["task"])
    if "--replot" in command:
        assert (project / "results/tiny/figures/fig_proxy_reward.png").exists()
        assert "X1 RLOO's final win rate falls as N grows." in printed


@pytest.mark.slow
def test_the_new_algorithm_is_called_untuned(project):
    run(
        project,
        *("reproductions/fig_offpolicy_robustness.py", "--preset", "smoke", "--seeds", "1"),
        *("--algorithms", "online_hinge", "--n", "1,4", "--workers", "1"),
    )
    table = pd.read_parquet(project / "results/smoke/figures/fig_offpolicy_robustness.parquet")
    assert table["outcome"].tolist() == ["final", "area"]
    assert table["algorithm"].tolist() == ["online_hinge"] * 2
    assert table["tuned"].tolist() == [False] * 2
