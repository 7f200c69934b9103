import pytest

import reproductions
from reproductions.run import options


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Return a results root with nothing in it, used instead of the project's."""
    monkeypatch.setattr(options, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(reproductions, "RECORDS", tmp_path / "results" / "reference")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "results"
