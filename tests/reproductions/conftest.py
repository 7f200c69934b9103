import pytest

from bench import paths


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Return a results root with nothing in it, used instead of the project's."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "RECORDS", tmp_path / "results" / "reference")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "results"
