import pandas as pd
import pytest

from bench.experiments.presets import preset
from plots.analysis import claims, registry
from reproductions import fig_scaling
from reproductions import run as script
from reproductions.fig_offpolicy_robustness import REPRODUCTION as ROBUSTNESS
from reproductions.fig_scaling import REPRODUCTION
from reproductions.loading import load
from reproductions.options import Options
from reproductions.reproduction import CLAIMS
from tests.bench import fakes
from tests.plots import sized

WORTH = Options(preset=preset("worth"))


def sizes_of(cells):
    return {(cell.stage.model, cell.stage.reward_model or cell.stage.model) for cell in cells}


def test_the_grid_has_all_policies_at_one_reward_model_and_all_reward_models_at_one_policy():
    cells = REPRODUCTION.grid(WORTH)
    assert sizes_of(cells) == {
        ("0.06m", "0.1m"), ("0.1m", "0.1m"), ("0.4m", "0.1m"),  # the preset's own reward model
        ("0.06m", "0.06m"), ("0.06m", "0.4m"),
    }  # fmt: skip
    assert len(cells) == 5 * 8
    assert {cell.algorithm.name for cell in cells} == {"online_dpo"}
    assert all(cell.stage.reward_per_seed for cell in cells)
    # what the first policy runs with the preset's reward model is what the other figures run
    hashes = {cell.config_hash() for cell in cells}
    shared = [c for c in ROBUSTNESS.grid(WORTH) if c.algorithm.name == "online_dpo"]
    assert {cell.config_hash() for cell in shared} <= hashes


def test_the_grid_takes_the_users_algorithms_and_n():
    asked = Options(preset=preset("paper"), algorithms=("online_dpo", "ppo"), n_values=(1, 8))
    cells = REPRODUCTION.grid(asked)
    assert len(cells) == 2 * 2 * 5
    assert ("2.8b", "410m") in sizes_of(cells)


def test_a_preset_of_one_size_has_one_pair():
    assert len(REPRODUCTION.grid(Options(preset=preset("smoke")))) == 2


def test_the_record_knows_the_size_of_each_runs_reward_model(tmp_path):
    cells = REPRODUCTION.grid(Options(preset=preset("worth"), n_values=(1,)))
    for cell in cells:
        fakes.write(tmp_path, cell, preset="worth")
    record = load(tmp_path, cells, preset("worth"), all_seeds=True)
    for frame in (record.final, record.curves):
        pairs = set(zip(frame["model"], frame["reward_model"], strict=True))
        assert pairs == sizes_of(cells)


def test_replot_draws_tabulates_and_judges(results, capsys):
    cells = REPRODUCTION.grid(WORTH)
    for seed in range(5):
        for cell in cells:
            fakes.write(results / "worth", cell.with_seed(seed), preset="worth")
    assert script.main([REPRODUCTION], ["--preset", "worth", "--replot"]) == 0
    output = capsys.readouterr().out
    figure = results / "worth" / "figures" / "fig_scaling"
    assert f"Data: {results}/worth (40 of 40 cells, 200 runs)" in output
    table = pd.read_parquet(figure.with_suffix(".parquet"))
    assert table["size"].tolist() == ["0.06m", "0.1m", "0.4m"] * 2
    assert table["sweep"].tolist() == ["model"] * 3 + ["reward_model"] * 3
    assert set(table["seeds"]) == {5}
    # made up: win rates .5, .8 - .02 log2 N and up to .01 more; KL is the step, 256 at the end
    # over N = 1 to 256, where log2 N averages 4 over the octaves
    assert table["opt"].to_numpy() == pytest.approx(1 - 0.02 * 4 / 0.3, abs=0.01)
    assert set(table["kl_nats"]) == {256.0}
    assert (set(table["perplexity"]), set(table["perplexity_diluted"])) == ({2.0}, {1.1})
    lines = [line.split()[0] for line in output.splitlines() if line.strip().startswith("C")]
    assert {"C7", "C7-64", "C8a", "C8a-64", "C8b"} <= set(lines)


def test_cells_that_were_not_run_are_named_with_both_sizes(results, capsys):
    first, *_ = REPRODUCTION.grid(WORTH)
    fakes.write(results / "worth", first, preset="worth")
    assert script.main([REPRODUCTION], ["--preset", "worth", "--replot", "--n", "1"]) == 0
    assert (
        "Not run: 4 of 5 cells: 0.1m online_dpo reuse(1) per_update, "
        "0.4m with reward model 0.1m online_dpo reuse(1) per_update, "
        "0.06m online_dpo reuse(1) per_update, "
        "0.06m with reward model 0.4m online_dpo reuse(1) per_update"
    ) in " ".join(capsys.readouterr().out.split())


def test_the_table_has_opt_by_size():
    table = fig_scaling.tabulate(sized.record(noise=0.0), WORTH)
    # 1 - lost x 3, the mean of log2 N over 0 to 6; 80% is kept up to log2 N = .2 / lost
    opt = [1 - 3 * lost for lost in (0.06, 0.05, 0.01, 0.06, 0.06, 0.05)]
    assert table["opt"].tolist() == pytest.approx(opt)
    n80 = [f"{2 ** (0.2 / lost):.0f}" for lost in (0.06, 0.05)]
    assert table["n80"].tolist() == [*n80, "> 64", n80[0], n80[0], n80[1]]


def test_claims_on_sizes():
    # As in the tests of the estimands: .0514 for policies, .0107 for reward models.
    judged = {
        v.claim.id: v
        for v in claims.judge(registry.load(CLAIMS), "fig_scaling", sized.record(noise=0.002),
                              "worth")
    }  # fmt: skip
    assert judged["C7"].interval.estimate == pytest.approx(0.72 / 14, abs=0.005)
    assert judged["C7"].text == "reproduced at worth scale"
    assert judged["C8a"].interval.level == 0.90
    assert judged["C8a"].text == "reproduced at worth scale"  # within .02
    assert judged["C8b"].text == "not reproduced at worth scale"  # all on one frontier


def test_a_size_that_learns_nothing_is_named():
    lost = {("0.1m", "0.1m"): 0.02, ("0.2m", "0.1m"): 0.02}
    record = sized.record(lost)
    flat = record.final["model"] == "0.2m"
    record.final.loc[flat, "win_rate"] = 0.58
    (c7, *_) = claims.judge(registry.load(CLAIMS), "fig_scaling", record, "worth")
    assert c7.status == "invalid"
    assert c7.reason == "online_dpo shows no clear gain over SFT at N = 1, model 0.2m"


def test_it_is_not_made_at_tiny(capsys):
    assert script.main([REPRODUCTION], ["--replot"]) == 2
    assert capsys.readouterr().err == (
        "error: --preset tiny: fig_scaling is made at smoke, worth, small, paper\n"
    )
