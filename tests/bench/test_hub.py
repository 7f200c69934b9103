"""Where data sets and models come from."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from bench import hub
from bench.errors import UserError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Use an empty hub directory; return it."""
    monkeypatch.setenv(hub.HUB_DIR, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("value", [None, ""])
def test_resolve_hub_is_the_hub_id_without_a_directory(value, monkeypatch):
    monkeypatch.delenv(hub.HUB_DIR, raising=False)
    if value is not None:
        monkeypatch.setenv(hub.HUB_DIR, value)
    assert hub.resolve_hub("org/name") == "org/name"


def test_resolve_hub_is_the_folder_in_the_directory(here):
    touch(here / "org/name/config.json")
    assert hub.resolve_hub("org/name") == str(here / "org/name")


def test_resolve_hub_downloads_nothing_where_a_directory_is_given(here):
    with pytest.raises(UserError, match=rf"{here}/org/name: has no config\.json"):
        hub.resolve_hub("org/name")


def test_use_hub_dir_holds_for_other_working_directories(here, monkeypatch):
    touch(here / "mine/org/name/config.json")
    monkeypatch.chdir(here)
    hub.use_hub_dir(Path("mine"))
    monkeypatch.chdir("/")
    assert hub.resolve_hub("org/name") == f"{here}/mine/org/name"


def test_use_hub_dir_names_a_missing_directory(here):
    with pytest.raises(UserError) as raised:
        hub.use_hub_dir(here / "x")
    assert str(raised.value) == (
        f"hub directory {here}/x: no such directory; allowed are a directory of folders "
        "<owner>/<name>, or none, to download"
    )


def test_dataset_files_are_in_order_and_of_one_split(here):
    names = ["train-00001-of-00002-bb", "train-00000-of-00002-cc", "validation-00000-of-00001"]
    second, first, _ = [touch(here / f"org/name/data/{name}.parquet") for name in names]
    assert hub.dataset_files("org/name", "train") == [first, second]


def test_dataset_files_downloads_the_split(tmp_path, monkeypatch):
    def download(name: str, *, repo_type: str, allow_patterns: str) -> str:
        assert (name, repo_type) == ("org/name", "dataset")
        return str(touch(tmp_path / allow_patterns.replace("*", "0")).parents[1])

    monkeypatch.setattr(hub, "snapshot_download", download)
    files = hub.dataset_files("org/name", "validation")
    assert files == [tmp_path / "data/validation-0.parquet"]


def test_dataset_files_names_a_split_that_the_hub_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(UserError, match=r"data set org/name: has no data/dev-\*\.parquet"):
        hub.dataset_files("org/name", "dev")


def test_dataset_files_is_one_line_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"^data set org/no-such-set: .*") as raised:
        hub.dataset_files("org/no-such-set", "train")
    assert "\n" not in str(raised.value)
