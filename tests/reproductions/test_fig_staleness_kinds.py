from dataclasses import replace

import pytest

from bench.experiments.presets import preset
from bench.staleness import lag, reuse
from plots.analysis import ranking
from reproductions.comparison import compare
from reproductions.fig_staleness_kinds import KINDS, REPRODUCTION, ranked
from reproductions.loading import load
from reproductions.options import Options
from reproductions.run import main
from tests.bench import fakes

WORTH = Options(preset=preset("worth"))


def test_every_kind_has_the_same_ages_and_fresh_data_is_of_all():
    cells = REPRODUCTION.grid(WORTH)
    names = REPRODUCTION.names(cells, WORTH.preset)
    of = {}
    for run in cells:
        for name in names[run.config_hash()]:
            of.setdefault(name, []).append(str(run.schedule))
    assert set(of) == {f"{loss} ({kind})" for loss in ("rloo", "online_dpo") for kind in KINDS}
    assert of["rloo (reuse)"] == ["reuse(1)", "reuse(4)", "reuse(16)", "reuse(64)"]
    assert of["rloo (bounded)"] == ["reuse(1)", "bounded(2)", "bounded(8)", "bounded(32)"]
    for kind in ("lag", "dropped", "withheld"):
        assert of[f"rloo ({kind})"] == ["reuse(1)", "lag(2)", "lag(8)", "lag(32)"]
    assert of["rloo (paced)"] == ["reuse(1)", "lag(1)", "lag(7)", "lag(31)"]
    assert len(cells) == 2 * (1 + 3 * 6)


def test_what_is_too_old_is_what_takes_longer_than_three_quarters_of_the_limit():
    cells = REPRODUCTION.grid(WORTH)
    aged = [run for run in cells if run.max_age_updates is not None]
    assert {(run.late, run.max_age_updates, run.tokens_per_update) for run in aged} == {
        (late, steps, 15) for late in ("drop", "withhold") for steps in (2, 8, 32)
    }
    assert all(run.schedule == lag(run.max_age_updates) for run in aged)


def test_runs_are_shared_with_the_other_figures():
    ours = {run.config_hash() for run in REPRODUCTION.grid(WORTH)}
    for schedule in (reuse(1), reuse(64)):
        assert WORTH.preset.run_config("rloo", schedule).config_hash() in ours


def test_it_is_drawn_and_kinds_are_ranked_at_equal_ages(results, capsys):
    asked = Options(preset=WORTH.preset, algorithms=("rloo",), n_values=(4,))
    place, cells = results / "reference" / "worth", REPRODUCTION.grid(asked)
    for run in cells:
        for seed in range(2):
            fakes.write(place, run.with_seed(seed), preset="worth")
    flags = ["--preset", "worth", "--replot", "--algorithms", "rloo", "--n", "4"]
    assert main([REPRODUCTION], flags) == 0
    assert "(7 of 7 cells, 14 runs)" in " ".join(capsys.readouterr().out.split())
    assert (results / "worth" / "figures" / "fig_staleness_kinds.png").exists()
    names = REPRODUCTION.names(cells, WORTH.preset)
    record = load(place, cells, WORTH.preset, all_seeds=True, series=names)
    assert not record.off_schedule  # what runs freely may be fresher than its bound
    found = ranking.rank(ranked(record), ("algorithm",))
    # Made-up win rates fall by .02 a doubling of the schedule's number: 1 for paced, 4 for reuse.
    assert found.names[0] == "rloo (paced)"
    assert found.names[-1] == "rloo (reuse)"
    assert len(found.names) == 6
    # The two runs on fresh data are of six series, and are compared once.
    assert len(record.final) == 2 * (6 + 6)
    plain = load(place, cells, WORTH.preset, all_seeds=True)
    assert compare(record, plain, cells)["verdict"].tolist() == ["identical"] * 7
    wins = record.final["win_rate"] + 0.02 * record.final["seed"]
    fresh = compare(replace(record, final=record.final.assign(win_rate=wins)), plain, cells).iloc[0]
    # 0 and .02: .01 +- t sd / sqrt(2), t = 12.706 of one degree of freedom, sd = .02 / sqrt(2)
    assert fresh["hi"] == pytest.approx(0.01 + 12.706 * 0.01, abs=1e-5)
