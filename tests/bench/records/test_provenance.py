import os
import re
import subprocess
from importlib import metadata

import pytest

from bench.records import provenance
from bench.records.schemas import SCHEMAS


def git(root, *arguments):
    subprocess.run(
        ["git", "-C", root, "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],
        check=True,
        capture_output=True,
    )


def test_git_state_is_unknown_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state(tmp_path) == ("unknown", True)


@pytest.fixture
def repository(tmp_path):
    """Return a folder with one commit of two Python files, of which one is code under bench."""
    git(tmp_path, "init")
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "code.py").write_text("a = 1\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test.py").write_text("")
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first", "--no-verify")
    return tmp_path


def test_git_state_tells_the_revision_and_that_nothing_differs(repository):
    revision, dirty = provenance.git_state(repository)
    assert re.fullmatch("[0-9a-f]{40}", revision)
    assert dirty is False


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("bench/code.py", True),
        ("tests/test.py", True),
        ("bench/algorithms/mine.py", True),
        ("plots/mine.py", True),
        ("reproductions/mine.py", True),
        ("results/tiny/runs/a.parquet", False),
        ("notes.txt", False),
        ("bench/code.pyc", False),
    ],
)
def test_changed_tracked_files_and_new_code_make_it_dirty(repository, path, expected):
    revision, _ = provenance.git_state(repository)
    (repository / path).parent.mkdir(parents=True, exist_ok=True)
    (repository / path).write_text("a = 2\n")
    assert provenance.git_state(repository) == (revision, expected)


def test_git_state_is_unknown_within_another_repository(repository):
    assert provenance.git_state(repository / "bench") == ("unknown", True)


def test_git_state_is_unknown_before_the_first_commit(tmp_path):
    git(tmp_path, "init")
    assert provenance.git_state(tmp_path) == ("unknown", True)


def test_code_and_host_fills_the_provenance_columns():
    found = provenance.code_and_host()
    assert set(found) <= set(SCHEMAS["runs"].names)
    assert found["torch"] == metadata.version("torch")
    assert found["cores"] == os.cpu_count()
    assert found["host_cpu"]


def test_package_version_is_none_for_what_is_not_installed():
    assert provenance.package_version("no-such-package-anywhere") is None


def test_file_hash_is_the_start_of_its_sha256(tmp_path):
    # sha256("abc") = ba7816bf 8f01cfea ... (FIPS 180-2, appendix B.1)
    (tmp_path / "a").write_bytes(b"abc")
    assert provenance.file_hash(tmp_path / "a") == "ba7816bf8f01"
    assert provenance.file_hash(tmp_path / "b") is None


def test_now_utc_is_iso_8601_in_utc():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", provenance.now_utc())
