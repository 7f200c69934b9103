import pytest

from bench.experiments.presets import preset
from bench.staleness import lag
from reproductions.fig_learning_rate import REPRODUCTION
from reproductions.options import Options
from reproductions.run import main
from tests.bench import fakes

WORTH = Options(preset=preset("worth"))


def test_each_loss_has_every_lag_at_multiples_of_its_tuned_rate():
    cells = REPRODUCTION.grid(WORTH)
    assert len({cell.config_hash() for cell in cells}) == 48
    assert {cell.schedule for cell in cells} == {lag(1), lag(4), lag(16), lag(64)}
    for name, tuned in (("rloo", 2e-4), ("online_dpo", 1e-4)):
        rates = {cell.learning_rate for cell in cells if cell.algorithm.name == name}
        assert sorted(rates) == pytest.approx([tuned * x for x in (0.25, 0.5, 1, 2, 4, 8)])
    assert {cell.lr_schedule for cell in cells} == {"per_update"}


def test_it_is_drawn_tabulated_and_judged(results, capsys):
    place = results / "reference" / "worth"
    for cell in REPRODUCTION.grid(WORTH):
        for seed in range(5):
            fakes.write(place, cell.with_seed(seed), preset="worth")
    assert main([REPRODUCTION], ["--preset", "worth", "--replot"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    # Made-up win rates do not depend on the rate: none is too large.
    assert "invalid" in text
    assert "lower bounds" in text
    assert (results / "worth" / "figures" / "fig_learning_rate.png").exists()
