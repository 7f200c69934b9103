from reproductions import readme


def test_readme_says_what_the_record_says():
    assert readme.main(["--check"]) == 0


def test_a_number_typed_by_hand_is_noticed(tmp_path, monkeypatch):
    changed = tmp_path / "README.md"
    changed.write_text(readme.README.read_text().replace("**reproduced", "**surely reproduced", 1))
    monkeypatch.setattr(readme, "README", changed)
    assert readme.main(["--check"]) == 1
