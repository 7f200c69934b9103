import os
import re
import subprocess
from importlib import metadata

from bench.records import provenance, store


def git(root, *arguments):
    subprocess.run(
        ["git", "-C", root, "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],
        check=True,
        capture_output=True,
    )


def test_git_state_is_unknown_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state(tmp_path) == ("unknown", True)


def test_git_state_tells_the_revision_and_whether_tracked_files_differ(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "first", "--no-verify")
    revision, dirty = provenance.git_state(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", revision)
    assert dirty is False
    (tmp_path / "results").write_text("not tracked")
    assert provenance.git_state(tmp_path) == (revision, False)
    (tmp_path / "code.py").write_text("a = 2\n")
    assert provenance.git_state(tmp_path) == (revision, True)


def test_code_and_host_fills_the_provenance_columns():
    found = provenance.code_and_host()
    assert set(found) <= set(store.SCHEMAS["runs"].names)
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
