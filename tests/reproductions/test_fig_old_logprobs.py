from bench.experiments.presets import preset
from plots.analysis import claims, registry
from reproductions import fig_old_logprobs, loading
from reproductions.comparison import cell_name
from reproductions.fig_old_logprobs import REPRODUCTION
from reproductions.options import Options
from reproductions.reproduction import CLAIMS
from reproductions.run import main
from tests.bench import fakes

WORTH = Options(preset=preset("worth"))
SERIES = [
    "ppo (behaviour)", "ppo (proximal)", "ppo (decoupled)",
    "rloo (behaviour)", "rloo (proximal)", "rloo (decoupled)",
    "rloo_vanilla", "copg", "topr",
]  # fmt: skip


def test_losses_that_clip_have_all_old_logprobs_and_others_one():
    cells = REPRODUCTION.grid(WORTH)
    found = {}
    for cell in cells:
        (name,) = fig_old_logprobs.series(cell, WORTH.preset)
        found.setdefault(name, []).append(cell.schedule.n)
    assert list(found) == SERIES
    assert all(n == [1, 2, 4, 8, 16, 32, 64, 256] for n in found.values())
    assert len({cell.config_hash() for cell in cells}) == 9 * 8


def test_with_behaviour_logprobs_the_runs_are_those_of_the_other_figures():
    ours = {c.config_hash() for c in REPRODUCTION.grid(WORTH)}
    tuned = WORTH.preset
    for name in ("ppo", "rloo"):
        run = next(c for c in REPRODUCTION.grid(WORTH) if c.algorithm.name == name)
        assert run.config_hash() == tuned.run_config(name, run.schedule).config_hash()
        assert run.config_hash() in ours
        assert run.algorithm.kl_coef == tuned.choice(name, "0.06m").algorithm_params["kl_coef"]


def test_users_losses_replace_both():
    asked = Options(preset=preset("smoke"), algorithms=("grpo", "online_dpo"), n_values=(4,))
    names = [n for c in REPRODUCTION.grid(asked) for n in fig_old_logprobs.series(c, asked.preset)]
    assert names == ["grpo (behaviour)", "grpo (proximal)", "grpo (decoupled)", "online_dpo"]


def test_a_series_stands_for_its_algorithm_in_record_claims_and_names(tmp_path, results, capsys):
    cells = REPRODUCTION.grid(WORTH)
    for cell in cells:
        for seed in range(5):
            fakes.write(results / "reference" / "worth", cell.with_seed(seed), preset="worth")
    names = REPRODUCTION.names(cells, WORTH.preset)
    place = results / "reference" / "worth"
    record = loading.load(place, cells, WORTH.preset, all_seeds=True, series=names)
    assert set(record.final["algorithm"]) == set(SERIES)
    # a series differs from the tuned choice on purpose; three losses were never tuned
    assert set(record.untuned()) == {"rloo_vanilla", "copg", "topr"}
    assert (
        cell_name(cells[7], REPRODUCTION.labels(cells, WORTH.preset))
        == "0.06m with reward model 0.1m ppo (proximal) reuse(4)"
    )
    judged = claims.judge(registry.load(CLAIMS), REPRODUCTION.name, record, "worth")
    # Made-up win rates fall by .02 a doubling, whatever the series: no effect beyond the seeds'.
    found = {verdict.claim.id: verdict for verdict in judged}
    assert found["L1b"].status == "reproduced"
    assert abs(found["L1a"].interval.estimate) < 0.01
    assert main([REPRODUCTION], ["--preset", "worth", "--replot", "--out", str(tmp_path)]) == 2
    assert main([REPRODUCTION], ["--preset", "worth", "--replot"]) == 0
    text = capsys.readouterr().out
    assert "--algorithms copg,rloo_vanilla,topr" in " ".join(text.split())
    assert (results / "worth" / "figures" / "fig_old_logprobs.png").exists()
