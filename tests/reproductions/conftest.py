import pytest

from bench import paths
from reproductions import run as script


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Return a results root with nothing in it, used instead of the project's."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    for module in (paths, script):
        monkeypatch.setattr(module, "RECORDS", tmp_path / "results" / "reference")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "results"
