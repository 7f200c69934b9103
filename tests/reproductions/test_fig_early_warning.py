from dataclasses import replace

from bench.experiments.presets import preset
from plots.analysis import warning
from reproductions import record_report
from reproductions.fig_early_warning import PANELS, REPRODUCTION
from reproductions.fig_offpolicy_robustness import REPRODUCTION as FIGURE_4
from reproductions.options import Options
from reproductions.run import main
from tests.bench import fakes

WORTH = Options(preset=preset("worth"), algorithms=("ppo", "rloo"), n_values=(1, 4))


def write(place, seeds, *, measured, monkeypatch):
    """Write the runs of the figure, with diagnostics or as of before there were any."""
    plain = fakes.result

    def result(run, status="completed"):
        found = plain(run, status)
        for i, step in enumerate(found.steps if measured else ()):
            late = 0.0 if i < run.updates / 4 else 5.0  # which does not count
            found.steps[i] = replace(
                step,
                ess_fraction=1 / run.schedule.n + 0.001 * fakes.number(run.seed, i) + late,
                gradient_cosine=0.1 * run.schedule.n**0.5,
            )
        return found

    monkeypatch.setattr(fakes, "result", result)
    for run in REPRODUCTION.grid(WORTH):
        for seed in seeds:
            fakes.write(place, run.with_seed(seed), preset="worth")
    monkeypatch.setattr(fakes, "result", plain)


def test_it_draws_the_runs_of_figure_4_and_what_is_measured():
    assert [run.config_hash() for run in REPRODUCTION.grid(WORTH)] == [
        run.config_hash() for run in FIGURE_4.grid(WORTH)
    ]
    assert set(PANELS) <= set(warning.QUANTITIES)


def test_means_are_of_the_first_quarter_and_runs_without_are_left_out(results, monkeypatch, capsys):
    place = results / "reference" / "worth"
    write(place, range(2), measured=True, monkeypatch=monkeypatch)
    write(place, [2], measured=False, monkeypatch=monkeypatch)
    flags = ["--preset", "worth", "--replot", "--n", "1,4", "--algorithms", "ppo,rloo"]
    assert main([REPRODUCTION], flags) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Left out: 4 runs without ess_fraction, from before it was recorded" in text
    assert "(4 of 4 cells, 8 runs)" in text
    assert (results / "worth" / "figures" / "fig_early_warning.png").exists()
    table = warning.table(load(place))
    row = table[(table["algorithm"] == "ppo") & (table["quantity"] == "ESS/B")].iloc[0]
    assert abs(row["stalest"] - 1 / 4) < 0.001
    assert row["moves_at"] == "4"


def load(place):
    from reproductions.loading import load as read

    return read(
        place,
        REPRODUCTION.grid(WORTH),
        WORTH.preset,
        all_seeds=True,
        columns=REPRODUCTION.columns,
    )


def test_a_record_from_before_diagnostics_does_not_have_the_figure():
    assert (
        record_report._section(
            REPRODUCTION, Options(preset=preset("tiny")), record_report.record_dir("tiny")
        )
        is None
    )
