import pandas as pd
import pytest

from bench.experiments.presets import preset
from plots.analysis import claims, registry
from reproductions import fig_overoptimisation
from reproductions import run as script
from reproductions.fig_overoptimisation import REPRODUCTION
from reproductions.options import Options
from reproductions.reproduction import CLAIMS
from tests.bench import fakes
from tests.plots import sized

WORTH = Options(preset=preset("worth"))
LOSSES = ("ppo", "rloo", "online_dpo", "best_of_2")
ARMS = {("0.1m", 2e-4, 128): (0.80, 0.70), ("0.1m", 1e-4, 512): (0.82, 0.66)}


def test_the_grid_pushes_every_loss_twice_with_every_reward_model():
    cells = REPRODUCTION.grid(WORTH)
    assert len({cell.config_hash() for cell in cells}) == 4 * 3 * 2
    assert {cell.algorithm.name for cell in cells} == set(LOSSES)
    assert {cell.stage.model for cell in cells} == {"0.06m"}
    assert {cell.stage.reward_model or "0.06m" for cell in cells} == {"0.06m", "0.1m", "0.4m"}
    assert {str(cell.schedule) for cell in cells} == {"reuse(1)"}
    tuned = {name: WORTH.preset.run_config(name, cells[0].schedule) for name in LOSSES}
    pushes = {
        (cell.learning_rate / tuned[cell.algorithm.name].learning_rate, cell.updates,
         cell.evaluation.every)
        for cell in cells
    }  # fmt: skip
    # twice the rate at the preset's 256 updates, or four times the updates; 17 evaluations of each
    assert pushes == {(2.0, 256, 16), (1.0, 1024, 64)}


def test_replot_draws_and_tabulates(results, capsys):
    options = Options(preset=preset("worth"), algorithms=("ppo", "grpo"))
    for seed in range(2):
        for cell in REPRODUCTION.grid(options):
            fakes.write(results / "worth", cell.with_seed(seed), preset="worth")
    flags = ["--preset", "worth", "--algorithms", "ppo,grpo", "--replot"]
    assert script.main([REPRODUCTION], flags) == 0
    output = capsys.readouterr().out
    figure = results / "worth" / "figures" / "fig_overoptimisation"
    assert f"Data: {results}/worth (12 of 12 cells, 24 runs)" in output
    assert figure.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    table = pd.read_parquet(figure.with_suffix(".parquet"))
    assert len(table) == 12
    # made-up win rates only rise, and the proxy does not move
    assert table["fall"].tolist() == pytest.approx([0.0] * 12)
    assert set(table["over_optimised"]) == {"0 of 2"}


def test_the_table_has_the_fall_and_the_rise_by_arm():
    table = fig_overoptimisation.tabulate(sized.pushed(ARMS, seeds=3), WORTH)
    assert table["updates"].tolist() == [128, 512]
    assert table["peak"].tolist() == pytest.approx([0.80, 0.82])
    assert table["at_update"].tolist() == [64, 256]
    for bound in ("fall", "lo", "hi"):  # the seeds are alike
        assert table[bound].tolist() == pytest.approx([0.10, 0.16])
    assert table["proxy_rise"].tolist() == pytest.approx([1.0, 1.0])
    assert table["over_optimised"].tolist() == ["3 of 3", "3 of 3"]


def test_claims_are_by_loss_and_do_not_need_a_gain_at_the_end():
    # The end is below SFT (.58), which for other claims would mean that nothing was learned.
    arms = {("0.1m", 2e-4, 128): (0.80, 0.50), ("0.1m", 1e-4, 512): (0.80, 0.50)}
    record = sized.pushed(arms, ("online_dpo", "ppo"), noise=0.01)
    judged = claims.judge(registry.load(CLAIMS), "fig_overoptimisation", record, "worth")
    by_id = {v.claim.id: v for v in judged}
    assert by_id["OO1"].interval.estimate == pytest.approx(0.30, abs=0.02)
    assert by_id["OO1"].text == by_id["OO1-ppo"].text == "reproduced at worth scale"
    assert by_id["OO1-rloo"].reason == "0 of 5 seeds complete"


def test_a_loss_that_stays_at_its_peak_refutes_the_claim():
    record = sized.pushed({("0.1m", 2e-4, 128): (0.80, 0.80)}, noise=0.005)
    (oo1, *_) = claims.judge(registry.load(CLAIMS), "fig_overoptimisation", record, "worth")
    assert oo1.text == "not reproduced at worth scale"


def test_a_pushed_rate_beside_a_tuned_one_is_not_called_untuned():
    record = sized.pushed(ARMS, seeds=2)
    record.final["tuned"] = record.final["updates"] == 512
    assert record.untuned() == []
    titles = [ax.get_title(loc="left") for ax in fig_overoptimisation.draw(record).axes]
    assert titles[0] == "Online DPO"
    record.final["tuned"] = False
    assert record.untuned() == ["online_dpo"]
    figure = fig_overoptimisation.draw(record)
    assert figure.axes[0].get_title(loc="left") == "Online DPO, untuned"


def test_all_losses_fit_side_by_side():
    figure = fig_overoptimisation.draw(sized.pushed(ARMS, LOSSES, seeds=2))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[:4] == ["PPO", "RLOO", "Online DPO", "Best-of-2"]
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "gold win rate", "", "", "", "proxy reward", "", "", "",
    ]  # fmt: skip
