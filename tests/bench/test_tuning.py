"""The search as a user starts it."""

import pandas as pd
import pytest

from bench import tuning
from bench.experiments.presets import preset
from bench.experiments.tuned import read_tuned
from bench.paths import RECORDS

from . import fake_driver


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--algorithms", "sarsa"], "argument --algorithms: 'sarsa': allowed are best_of_2, "),
        ([], "the following arguments are required: --algorithms"),
        (["--algorithms", "ppo", "--workers", "0"], "--workers 0: must be at least 1"),
        (["--algorithms", "ppo", "--preset", "huge"], "preset 'huge': allowed are smoke, tiny"),
        (["--algorithms", "ppo", "--out", str(RECORDS / "tiny")], "holds recorded runs; choose"),
    ],
)
def test_what_is_not_possible_is_one_line_and_status_2(capsys, arguments, message):
    assert tuning.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_more_workers_than_gpus_are_refused_before_anything_is_done(tmp_path, monkeypatch, capsys):
    fake_driver.install(tmp_path, monkeypatch, fake_driver.listing(4))
    out = tmp_path / "out"
    arguments = ["--preset", "smoke", "--algorithms", "ppo", "--workers", "8", "--out", str(out)]
    assert tuning.main(arguments) == 2
    assert capsys.readouterr().err == (
        "error: --workers 8: this machine has 4 GPUs, and a run needs one; at most 4\n"
    )
    assert not out.exists()


@pytest.mark.slow
def test_the_choice_is_found_by_the_next_run_and_a_second_search_adds_to_it(tmp_path):
    arguments = ["--preset", "smoke", "--out", str(tmp_path), "--algorithms"]
    assert tuning.main([*arguments, "best_of_2"]) == 0
    (choices,) = read_tuned(tmp_path / "tuned.toml").values()
    trials = pd.read_parquet(tmp_path / "tuning.parquet")
    assert trials["learning_rate"].tolist() == [2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4]
    chosen = trials[trials["chosen"]].iloc[0]
    assert chosen["win_rate"] == trials["win_rate"].max()
    assert choices["best_of_2"].learning_rate == chosen["learning_rate"]
    smoke = preset("smoke", tmp_path)
    assert smoke.is_tuned("best_of_2", chosen["learning_rate"], {})

    assert tuning.main([*arguments, "copg"]) == 0
    assert set(read_tuned(tmp_path / "tuned.toml")["smoke"]) == {"best_of_2", "copg"}
    both = pd.read_parquet(tmp_path / "tuning.parquet")
    assert both["algorithm"].value_counts().to_dict() == {"copg": 8, "best_of_2": 6}
    assert both.groupby("algorithm")["chosen"].sum().to_dict() == {"best_of_2": 1, "copg": 1}
