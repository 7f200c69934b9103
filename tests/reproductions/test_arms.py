"""Figures 7 and 8: runs of one algorithm that differ in T, or in K and the pair."""

import pandas as pd
import pytest

from bench.experiments import presets
from bench.experiments.presets import preset
from bench.staleness import lag, reuse
from reproductions import fig_generation_bound, fig_training_bound, loading
from reproductions.options import Options, one_step_stale
from reproductions.run import main
from tests.bench import fakes

GENERATION, TRAINING = fig_generation_bound.REPRODUCTION, fig_training_bound.REPRODUCTION
TINY, WORTH = preset("tiny"), preset("worth")


def cells(one, scale):
    return [
        (run.stage.model, one.arm(run, scale), run.updates, run.evaluation.every, run.learning_rate)
        for run in one.grid(Options(preset=scale))
    ]


def test_figure_7_trains_every_size_for_each_t():
    assert cells(GENERATION, WORTH) == [
        (size, f"T = {epochs}", 256, 16, 1e-4)
        for size in ("0.06m", "0.1m", "0.4m")
        for epochs in (1, 2, 3)
    ]


def test_figure_8_halves_the_updates_of_k_4_and_keeps_the_number_of_evaluations():
    assert cells(TRAINING, TINY) == [
        cell
        for size in ("0.1m", "0.4m")
        for cell in [
            (size, "K = 2", 128, 16, 5e-5),
            (size, "K = 4", 64, 8, 5e-5),
            (size, "K = 4, rate x2", 64, 8, 1e-4),
            (size, "K = 4, random pair", 64, 8, 5e-5),
        ]
    ]


@pytest.mark.parametrize("one", [GENERATION, TRAINING])
def test_all_runs_are_one_step_stale_with_a_rate_per_update_at_every_scale(one):
    for name in ("smoke", "tiny", "worth", "small", "paper"):
        for run in one.grid(Options(preset=preset(name))):
            assert (run.schedule, run.lr_schedule) == (lag(1), "per_update")


def test_the_first_arms_are_the_same_runs():
    firsts = [
        {run.config_hash() for run in one.grid(Options(preset=WORTH)) if one.arm(run, WORTH) == arm}
        for one, arm in ((GENERATION, "T = 1"), (TRAINING, "K = 2"))
    ]
    assert firsts[0] == firsts[1]
    assert len(firsts[0]) == 3


@pytest.fixture
def recorded(results):
    """Return the record of both figures, of five seeds that never ran."""
    place = results / "reference" / "tiny"
    for one in (GENERATION, TRAINING):
        for run in one.grid(Options(preset=TINY)):
            for seed in range(5):
                fakes.write(place, run.with_seed(seed), preset="tiny")
    return place


def test_runs_have_their_arm_and_their_times(recorded):
    runs = GENERATION.grid(Options(preset=TINY))
    arms = GENERATION.arms(runs, TINY)
    found = loading.load(recorded, runs, TINY, all_seeds=True, arms=arms)
    counts = found.final.groupby(["model", "arm"]).size()
    assert counts.to_dict() == {
        (size, f"T = {t}"): 5 for size in ("0.1m", "0.4m") for t in (1, 2, 3)
    }
    # fakes: .1 s of generation, of scoring and of learning
    assert set(found.final["generate_s"]) == {0.1}
    assert set(found.final["train_s"]) == {0.2}
    assert "generate_s" in found.curves
    assert "arm" not in loading.load(recorded, runs, TINY, all_seeds=True).final


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(("one", "first"), [(GENERATION, "C11"), (TRAINING, "C13a")])
def test_a_figure_is_drawn_and_judged_from_the_record(results, capsys, one, first):
    assert main([one], ["--replot"]) == 0
    out = capsys.readouterr().out
    assert first in out
    assert "Untuned" not in out  # Online DPO is tuned at tiny; arms differ from that on purpose
    assert (results / "tiny" / "figures" / f"{one.name}.png").exists()
    table = pd.read_parquet(results / "tiny" / "figures" / f"{one.name}.parquet")
    assert table["model"].tolist() == ["0.1m"] * (len(table) // 2) + ["0.4m"] * (len(table) // 2)


def test_what_is_missing_is_named_by_its_arm(results, capsys):
    for run in TRAINING.grid(Options(preset=TINY))[:6]:
        fakes.write(results / "reference" / "tiny", run, preset="tiny")
    assert main([TRAINING], ["--replot"]) == 0
    assert (
        "Not run: 2 of 8 cells: 0.4m online_dpo lag(1) K = 4, rate x2, "
        "0.4m online_dpo lag(1) K = 4, random pair\n"
    ) in capsys.readouterr().out


def test_arms_are_untuned_where_their_algorithm_is(results, capsys, monkeypatch):
    monkeypatch.setattr(presets, "RECORDED", results / "none.toml")
    for run in GENERATION.grid(Options(preset=preset("worth"))):
        fakes.write(results / "reference" / "worth", run, preset="worth")
    assert main([GENERATION], ["--preset", "worth", "--replot"]) == 0
    assert "Untuned: online_dpo." in capsys.readouterr().out


@pytest.mark.usefixtures("recorded")
def test_runs_of_another_directory_are_another_arm(tmp_path):
    mine = one_step_stale(TINY, "online_dpo", "0.1m", epochs=5)
    fakes.write(tmp_path / "mine", mine, preset="tiny")
    fakes.write(tmp_path / "mine", TINY.run_config("online_dpo", reuse(4)), preset="tiny")
    runs = GENERATION.grid(Options(preset=TINY))
    other = loading.load_beside(tmp_path / "mine", runs, TINY, arms=True)
    assert other.final[["arm", "config_hash"]].to_numpy().tolist() == [
        ["online_dpo (mine)", mine.config_hash()]
    ]
    assert main([GENERATION], ["--replot", "--with", str(tmp_path / "mine")]) == 0


@pytest.mark.usefixtures("results")
def test_an_algorithm_without_pairs_is_refused_in_a_line(capsys):
    assert main([TRAINING], ["--preset", "smoke", "--algorithms", "rloo"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: algorithm rloo: no parameter pair; allowed are ")
    assert len(error.splitlines()) == 1
