from collections import Counter

import pytest

from bench.experiments.presets import preset
from bench.staleness import lag, reuse
from plots.analysis import registry
from reproductions.fig_modern_losses import REPRODUCTION, series
from reproductions.options import Options
from reproductions.reproduction import CLAIMS
from reproductions.run import main
from reproductions.variants import FAMILIES, RANKED, VARIANTS
from tests.bench import fakes

WORTH = Options(preset=preset("worth"))


@pytest.fixture(scope="module")
def cells():
    return REPRODUCTION.grid(WORTH)


@pytest.fixture(scope="module")
def names(cells):
    return REPRODUCTION.names(cells, WORTH.preset)


def test_what_says_nothing_on_fresh_data_is_run_once_and_is_of_all(cells, names):
    of = {run.schedule: [] for run in cells}
    for run in cells:
        of[run.schedule].append(names[run.config_hash()])
    twice = [one for one in of[reuse(1)] if "grpo (T = 2)" in one]
    assert [len(one) for one in twice] == [8]  # and the seven corrections at T = 2
    (once,) = [one for one in of[reuse(1)] if "grpo" in one]
    corrected = {name for name in RANKED if name.startswith("grpo (")}
    assert len(corrected) == 8
    assert {name for name in once if "batch" not in name} == {"grpo", *corrected}
    assert Counter(len(one) for one in of[reuse(64)]) == {1: 47}
    # Of the batches one is the preset's own.
    assert ("grpo (token TIS)", "grpo (token TIS, batch x1)") in of[lag(8)]


def test_each_loss_is_run_at_ages_that_are_alike_by_reuse_and_by_lag(cells, names):
    of = {name: [] for one in names.values() for name in one}
    for run in cells:
        for name in names[run.config_hash()]:
            of[name].append(str(run.schedule))
    both = ["reuse(1)", "reuse(4)", "reuse(16)", "reuse(64)", "lag(2)", "lag(8)", "lag(32)"]
    for name in RANKED:
        further = ["reuse(128)", "lag(64)"] if name == "online_dpo" else []
        assert sorted(of.pop(name)) == sorted([*both, *further])
    assert of["gspo (K = 4)"] == both[:4]
    assert of["grpo (sequence TIS, batch x2)"] == ["lag(8)"]
    assert len(cells) == len({run.config_hash() for run in cells}) == 296


def test_at_k_4_a_batch_has_as_many_completions(cells, names):
    rows = {
        name: run.prompts_per_batch * run.algorithm.completions_per_prompt
        for run in cells
        for name in names[run.config_hash()]
    }
    assert {name: n for name, n in rows.items() if n != 64} == {
        f"grpo ({weights} TIS, batch x{times})": n
        for weights in ("token", "sequence")
        for times, n in (("0.5", 32), ("2", 128))
    }


def test_what_the_paper_has_is_run_as_for_figure_4(cells):
    ours = {run.config_hash() for run in cells}
    for name in ("ppo", "rloo", "online_dpo"):
        assert WORTH.preset.run_config(name, reuse(16)).config_hash() in ours


def test_every_series_has_a_panel_and_every_claim_its_series():
    names = {one.name for one in VARIANTS}
    drawn = {name for of in FAMILIES.values() for name in of}
    assert {name for name in names - drawn if "batch x" not in name} == set()
    assert set(RANKED) <= drawn
    claims = [one for one in registry.load(CLAIMS) if one.figure == REPRODUCTION.name]
    assert len(claims) == 8
    assert {name for claim in claims for name in claim.algorithms} <= names


def test_a_users_loss_is_added_as_it_is():
    asked = Options(preset=preset("smoke"), algorithms=("online_ipo", "asymre"), n_values=(1, 4))
    found = [series(run, asked.preset) for run in REPRODUCTION.grid(asked)]
    assert found == [
        *[("asymre",)] * 3, *[("asymre (dV = 0)",)] * 3, *[("online_ipo",)] * 3,
    ]  # fmt: skip


def test_it_is_drawn_ranked_and_judged(results, capsys):
    asked = Options(preset=WORTH.preset, algorithms=("asymre", "cispo"), n_values=(1, 4))
    for run in REPRODUCTION.grid(asked):
        for seed in range(2):
            fakes.write(results / "reference" / "worth", run.with_seed(seed), preset="worth")
    flags = ["--preset", "worth", "--replot", "--algorithms", "asymre,cispo", "--n", "1,4"]
    assert main([REPRODUCTION], flags) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "(14 of 14 cells, 28 runs)" in text  # asymre with two shifts; cispo, at T = 2, at K = 4
    assert "L6 At N = 64" in text
    assert (results / "worth" / "figures" / "fig_modern_losses.png").exists()
