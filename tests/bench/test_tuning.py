"""The search as a user starts it."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from bench import tuning
from bench.experiments.presets import preset
from bench.experiments.tuned import read_tuned
from bench.paths import RECORDS, record_dir
from bench.records import store

from . import fake_driver, fakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--algorithms", "sarsa"], "argument --algorithms: 'sarsa': allowed are asymre, "),
        ([], "the following arguments are required: --algorithms"),
        (["--algorithms", "ppo", "--workers", "0"], "--workers 0: must be at least 1"),
        (["--algorithms", "ppo", "--seeds", "1"], "--seeds 1: must be from 2 to 1000"),
        (["--algorithms", "ppo", "--model", "9b"], "model '9b': preset tiny has 0.1m, 0.4m"),
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


@pytest.fixture
def faked(monkeypatch):
    """Let runs be made up; return the learning rates of each sweep."""
    asked = []

    def train(configs, _, *, results_dir, preset, **options):  # noqa: ARG001
        asked.append(sorted({config.learning_rate for config in configs}))
        for config in configs:
            made = fakes.result(config)
            made.status = "diverged" if config.learning_rate >= 4e-4 else "completed"
            # As the rate rises the curve rises sooner, and ends lower.
            area, final = AREAS_AND_FINALS.get(config.learning_rate, (0.3, 0.3))
            noise = 0.001 * (config.seed - 1001)
            middle = 2 * area - (0.5 + final) / 2  # a trapezoid of three evaluations
            made.evals = [
                replace(made.evals[0], step=step, win_rate=rate)
                for step, rate in ((0, 0.5), (2, middle + noise), (4, final))
            ]
            store.write_run(
                results_dir, config, made, preset=preset, weights_digest="0" * 12,
                provenance=fakes.PROVENANCE,
            )  # fmt: skip

    monkeypatch.setattr(tuning, "sweep", train)
    monkeypatch.setattr(
        tuning,
        "starting_models",
        lambda configs, **_: {c.stage.hash(): SimpleNamespace(digest="0" * 12) for c in configs},
    )
    monkeypatch.setattr(tuning, "check", lambda configs, workers: None)  # noqa: ARG005
    return asked


AREAS_AND_FINALS = {2.5e-5: (0.60, 0.90), 5e-5: (0.70, 0.95), 1e-4: (0.80, 0.85), 2e-4: (0.75, 0.8)}


def test_the_area_chooses_and_the_final_win_rate_stands_beside_it(tmp_path, faked):
    arguments = ["--preset", "tiny", "--out", str(tmp_path), "--algorithms", "best_of_2"]
    assert tuning.main(arguments) == 0
    assert faked == [[2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4]]
    found = read_tuned(tmp_path / "tuned.toml")["tiny"]["best_of_2"]
    assert (found.learning_rate, found.metric) == (1e-4, "area")  # of final win rate it were 5e-5
    # Areas .8 and .0005 less or more, half of the noise: standard error .0005 / sqrt(3).
    assert found.value == pytest.approx(0.8)
    assert found.standard_error == pytest.approx(0.0005 / 3**0.5)
    trials = pd.read_parquet(tmp_path / "tuning.parquet").set_index("learning_rate")
    assert trials["area"].tolist() == pytest.approx([0.6, 0.7, 0.8, 0.75, 0, 0])
    assert trials["win_rate"].tolist() == pytest.approx([0.9, 0.95, 0.85, 0.8, 0, 0])
    assert trials["n_seeds"].tolist() == [3] * 6


@pytest.mark.usefixtures("faked")
def test_a_size_is_tuned_for_itself_and_other_trials_stay(tmp_path):
    arguments = ["--preset", "tiny", "--out", str(tmp_path), "--seeds", "2", "--algorithms"]
    earlier = pd.read_parquet(record_dir("tiny") / "tuning.parquet")
    earlier.to_parquet(tmp_path / "tuning.parquet")  # of a search by final win rate
    assert tuning.main([*arguments, "best_of_2"]) == 0
    assert tuning.main([*arguments, "best_of_2", "--model", "0.4m"]) == 0
    assert set(read_tuned(tmp_path / "tuned.toml")) == {"tiny", "tiny/0.4m"}
    tiny = preset("tiny", tmp_path)
    assert tiny.tuned_by_size["0.4m"]["best_of_2"].learning_rate == 1e-4
    trials = pd.read_parquet(tmp_path / "tuning.parquet")
    by_size = trials.groupby(["algorithm", "model"])["area"].agg(["size", "count"])
    assert by_size.loc["best_of_2"].to_numpy().tolist() == [[6, 6], [6, 6]]
    assert by_size.loc["ppo"].to_numpy().tolist() == [[8, 0]]  # has no area


@pytest.mark.slow
def test_the_choice_is_found_by_the_next_run_and_a_second_search_adds_to_it(tmp_path):
    arguments = ["--preset", "smoke", "--out", str(tmp_path), "--algorithms"]
    assert tuning.main([*arguments, "best_of_2"]) == 0
    (choices,) = read_tuned(tmp_path / "tuned.toml").values()
    trials = pd.read_parquet(tmp_path / "tuning.parquet")
    assert {2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4} <= set(trials["learning_rate"])
    chosen = trials[trials["chosen"]].iloc[0]
    assert chosen["area"] == trials["area"].max()
    assert choices["best_of_2"].learning_rate == chosen["learning_rate"]
    smoke = preset("smoke", tmp_path)
    assert smoke.is_tuned("best_of_2", chosen["learning_rate"], {})

    assert tuning.main([*arguments, "copg"]) == 0
    assert set(read_tuned(tmp_path / "tuned.toml")["smoke"]) == {"best_of_2", "copg"}
    both = pd.read_parquet(tmp_path / "tuning.parquet")
    assert len(both[both["algorithm"] == "best_of_2"]) == len(trials)
    assert both.groupby("algorithm")["chosen"].sum().to_dict() == {"best_of_2": 1, "copg": 1}
