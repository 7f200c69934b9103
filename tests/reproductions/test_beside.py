"""``--with DIR``: the runs of another directory beside those of a grid."""

from dataclasses import replace

import pytest

from bench.errors import UserError
from bench.experiments import arms
from bench.experiments.presets import preset
from bench.experiments.tuned import write_tuned
from bench.staleness import ON_POLICY, lag, reuse
from reproductions import loading
from reproductions.fig_offpolicy_ppo import REPRODUCTION as PPO
from reproductions.fig_offpolicy_robustness import REPRODUCTION as ROBUSTNESS
from reproductions.fig_sync_vs_async import REPRODUCTION as SYNC_VS_ASYNC
from reproductions.options import Options
from reproductions.run import main
from tests.bench import fakes

TINY = preset("tiny")
GRID = [run.with_seed(0) for run in ROBUSTNESS.grid(Options(preset=TINY))]


def mine(directory, *configs, preset_name="tiny"):
    for config in configs:
        fakes.write(directory, config, preset=preset_name)
    return directory


def test_each_configuration_is_a_series_called_after_its_algorithm_and_the_directory(tmp_path):
    grpo = TINY.run_config("grpo", reuse(4))
    other = replace(grpo, learning_rate=1e-3)
    ppo = TINY.run_config("ppo", reuse(4))
    found = loading.load_beside(mine(tmp_path / "mine", grpo, other, ppo), GRID, TINY)
    names = dict(zip(found.final["config_hash"], found.final["algorithm"], strict=True))
    assert names[ppo.config_hash()] == "ppo (mine)"
    assert {names[grpo.config_hash()], names[other.config_hash()]} == {
        "grpo (mine)", "grpo (mine 2)",
    }  # fmt: skip
    tuned = dict(zip(found.final["algorithm"], found.final["tuned"], strict=True))
    assert tuned == {"ppo (mine)": True, "grpo (mine)": False, "grpo (mine 2)": False}


def test_n_and_seeds_of_a_configuration_are_one_series(tmp_path):
    configs = [TINY.run_config("grpo", reuse(n), seed=seed) for n in (1, 4) for seed in (0, 1)]
    found = loading.load_beside(mine(tmp_path / "mine", *configs), GRID, TINY)
    assert found.by_n("grpo (mine)", [1, 4]).shape == (2, 2)
    assert found.n_values("grpo (mine)") == [1, 4]


def test_what_the_figure_cannot_draw_is_left_out(tmp_path):
    drawn = TINY.run_config("grpo", ON_POLICY)
    stale = TINY.run_config("grpo", lag(1))
    larger = TINY.run_config("grpo", reuse(4), model="0.4m")
    timed = arms.arm(TINY.run_config("grpo", ON_POLICY), "whole")
    directory = mine(tmp_path / "mine", drawn, stale, larger, timed)
    mine(directory, TINY.run_config("copg", reuse(4)), preset_name="smoke")
    found = loading.load_beside(directory, GRID, TINY)
    assert found.final["config_hash"].tolist() == [drawn.config_hash()]
    with pytest.raises(UserError, match=r"has no runs of preset tiny that this figure could draw"):
        loading.load_beside(mine(tmp_path / "other", stale), GRID, TINY)


@pytest.mark.parametrize("one", [PPO, ROBUSTNESS])
def test_the_figure_has_both_and_the_verdicts_are_those_of_the_record(
    results, tmp_path, capsys, one
):
    for run in one.grid(Options(preset=TINY)):
        for seed in range(5):
            fakes.write(results / "reference" / "tiny", run.with_seed(seed))
    assert main([one], ["--replot"]) == 0
    alone = capsys.readouterr().out
    mine(tmp_path / "mine", TINY.run_config("grpo", reuse(4)), TINY.run_config("grpo", reuse(1)))
    assert main([one], ["--replot", "--with", str(tmp_path / "mine")]) == 0
    both = capsys.readouterr().out
    assert f"Beside it: {tmp_path}/mine (2 runs)" in both
    verdicts = [text.partition("Verdicts")[2].partition("Data:")[0] for text in (alone, both)]
    assert verdicts[0] == verdicts[1] != ""
    if one is ROBUSTNESS:
        assert "grpo (mine)" in both
        assert "grpo (mine)" not in alone


def test_an_untuned_algorithm_is_called_so_and_the_command_that_tunes_it_is_given(results, capsys):
    asked = Options(preset=TINY, algorithms=("online_dpo", "grpo"), n_values=(1, 4))
    for run in ROBUSTNESS.grid(asked):
        fakes.write(results / "reference" / "tiny", run)
    arguments = ["--replot", "--algorithms", "online_dpo,grpo", "--n", "1,4"]
    assert main([ROBUSTNESS], arguments) == 0
    assert (
        "Untuned: grpo. A comparison with tuned algorithms is not fair; tune by: "
        "python -m bench.tuning --preset tiny --algorithms grpo\n"
    ) in capsys.readouterr().out


def test_a_size_that_runs_at_another_sizes_choice_is_named_with_its_command(results, capsys):
    for run in SYNC_VS_ASYNC.grid(Options(preset=TINY)):
        fakes.write(results / "reference" / "tiny", run)
    assert main([SYNC_VS_ASYNC], ["--replot"]) == 0
    line = (
        "Tuned at 0.1m: online_dpo at 0.4m; tune it there by: "
        "python -m bench.tuning --preset tiny --model 0.4m --algorithms online_dpo\n"
    )
    assert line in capsys.readouterr().out
    own = {"tiny/0.4m": {"online_dpo": TINY.tuned["online_dpo"]}}
    write_tuned(results / "tiny" / "tuned.toml", own)
    assert main([SYNC_VS_ASYNC], ["--replot"]) == 0
    assert "Tuned at" not in capsys.readouterr().out
