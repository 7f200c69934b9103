"""The driver on made-up runs: what it draws, prints and refuses, without training."""

import fcntl
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from bench.experiments.presets import preset
from bench.records import store
from bench.records.merge import merge
from bench.staleness import ON_POLICY
from reproductions import comparison, report
from reproductions import run as script
from reproductions.ablation_lr_schedule import REPRODUCTION as ABLATION
from reproductions.ablation_lr_schedule import arm
from reproductions.fig_offpolicy_ppo import REPRODUCTION as PPO
from reproductions.loading import load
from reproductions.options import Options
from reproductions.table_sft import REPRODUCTION as SFT
from tests.bench import fake_driver, fakes

ROOT = Path(__file__).parents[2]
TINY = Options(preset=preset("tiny"))


def write(place, one, seeds, **provenance):
    """Write made-up runs of a grid of preset tiny; return their configurations."""
    runs = [cell.with_seed(seed) for seed in seeds for cell in one.grid(TINY)]
    for run in runs:
        fakes.write(place, run, **provenance)
    return runs


def test_replot_draws_the_record_judges_it_and_names_the_files(results, capsys):
    write(results / "made", PPO, seeds=range(5))
    merge(results / "made", results / "reference" / "tiny")
    assert script.main([PPO], ["--replot"]) == 0
    output = capsys.readouterr().out
    figure = results / "tiny" / "figures" / "fig_offpolicy_ppo"
    assert f"Data: {results}/reference/tiny (7 of 7 cells, 35 runs)" in output
    assert f"Figure: {figure}.png\nFigure: {figure}.svg" in output
    assert figure.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in figure.with_suffix(".svg").read_text()
    # C1 is minus the slope of the win rate per doubling, made up as 0.02; margin 0.0125
    _, _, after = output.partition("\nC1 ")
    verdict = after.splitlines()[1]
    assert "reproduced at tiny scale, estimate +0.0198" in verdict


def test_replot_prefers_the_users_runs_and_compares_them_with_the_record(results, capsys):
    write(results / "tiny", PPO, seeds=(0, 1))
    write(results / "made", PPO, seeds=range(5))
    merge(results / "made", results / "reference" / "tiny")
    assert script.main([PPO], ["--replot"]) == 0
    output = capsys.readouterr().out
    assert f"Data: {results}/tiny (7 of 7 cells, 14 runs)" in output
    assert "Compared with the record: 14 of 14 runs are identical." in output
    assert "Cells that differ" not in output


def test_replot_says_how_many_cells_there_are(results, capsys):
    write(results / "tiny", PPO, seeds=(0, 1))
    assert script.main([PPO], ["--replot", "--n", "1,2,128", "--seeds", "1,"]) == 0
    output = capsys.readouterr().out
    assert f"Data: {results}/tiny (2 of 3 cells, 2 runs)" in output
    assert "record" not in output


def change_win_rate(place, by):
    """Add to the last win rate of every run."""
    for path in (place / "evals").iterdir():
        table = store.load(path, "evals").to_pandas()
        table.loc[table.index[-1], "win_rate"] += by
        store.write_table(path, "evals", table.to_dict("records"))


def test_compare_gives_the_paired_difference_where_runs_differ(results):
    one, two = fakes.config(n=2, seed=0), fakes.config(n=2, seed=1)
    for place in ("mine", "recorded"):
        for run in (one, two):
            fakes.write(results / place, run)
    change_win_rate(results / "mine", 0.03)
    fakes.write(results / "mine", fakes.config(n=4))
    runs = [one, fakes.config(n=4)]
    mine, recorded = (
        load(results / place, runs, TINY.preset, all_seeds=True) for place in ("mine", "recorded")
    )
    compared = comparison.compare(mine, recorded, runs)
    assert compared["cell"].tolist() == [
        "fake rloo reuse(2) per_update",
        "fake rloo reuse(4) per_update",
    ]
    assert compared["seeds"].tolist() == [2, 0]
    assert compared["identical"].tolist() == [0, 0]
    # the same difference for both seeds: an interval of no width
    assert compared[["difference", "lo", "hi"]].iloc[0].tolist() == pytest.approx([0.03] * 3)


def test_print_comparison_names_the_cells_that_differ(capsys):
    rows = [
        ("a", 2, 2, 0.0, 0.0, 0.0, 0.01, "identical"),
        ("b", 2, 1, 0.01, -0.02, 0.04, 0.02, "agrees"),
        ("c", 0, 0, *[float("nan")] * 4, "no seed in common"),
    ]
    columns = ["cell", "seeds", "identical", "difference", "lo", "hi", "spread", "verdict"]
    report.print_comparison(Console(width=120), pd.DataFrame(rows, columns=columns))
    output = capsys.readouterr().out
    assert "Compared with the record: 3 of 4 runs are identical." in output
    body = [line.split() for line in output.splitlines()[-3:] if line.strip()]
    assert body[-1] == ["b", "2", "1", "+0.0100", "[-0.0200,", "+0.0400]", "0.02", "agrees"]


def test_load_takes_the_latest_run_of_a_cell_and_seed(results):
    config = fakes.config()
    for digest, started in (
        ("a" * 12, "2024-01-02"),
        ("b" * 12, "2024-01-03"),
        ("c" * 12, "2024-01-01"),
    ):
        store.write_run(
            results, config, fakes.result(config), preset="tiny", weights_digest=digest,
            provenance={**fakes.PROVENANCE, "started_utc": started},
        )  # fmt: skip
    found = load(results, [config], TINY.preset, all_seeds=True)
    assert found.final["weights_digest"].tolist() == ["b" * 12]


def test_load_leaves_out_other_cells_and_seeds(results):
    for n, seed in ((1, 0), (1, 1), (2, 0)):
        fakes.write(results, fakes.config(n=n, seed=seed))
    exact = load(results, [fakes.config(n=1)], TINY.preset, all_seeds=False)
    assert exact.final[["n", "seed"]].to_numpy().tolist() == [[1, 0]]
    every = load(results, [fakes.config(n=1)], TINY.preset, all_seeds=True)
    assert every.final[["n", "seed"]].to_numpy().tolist() == [[1, 0], [1, 1]]


def test_ablation_explains_an_effect_by_the_budget(results):
    write(results, ABLATION, seeds=range(3))
    # make every per-round run above N = 1 worse by 0.01 per doubling
    runs = store.read(results, "runs").set_index("run_id")
    for run_id, run in runs[runs["lr_schedule"] == "per_round"].iterrows():
        path = results / "evals" / f"{run_id}.parquet"
        table = store.load(path, "evals").to_pandas()
        table.loc[table.index[-1], "win_rate"] -= 0.01 * (int(run["n"]).bit_length() - 1)
        store.write_table(path, "evals", table.to_dict("records"))
    found = load(results, ABLATION.grid(TINY), TINY.preset, all_seeds=True)
    assert sorted(arm(found, "per_round").final["n"].unique()) == [1, 2, 4, 8, 16, 32, 64]
    table = ABLATION.tabulate(found, TINY).set_index("claim")
    assert table.index.tolist() == ["C1-64", "C1-64-area", "C3-64", "C5a-64", "C5a-64-area"]
    # C1-64 is minus the slope per doubling: 0.02 and, in the other arm, 0.03, up to seed noise of
    # at most 0.01 over 6 doublings; the noise of the two arms differs, since their cells do
    c1 = table.loc["C1-64"]
    assert c1["per_update"] == pytest.approx(0.02, abs=0.003)
    assert c1["per_round"] == pytest.approx(0.03, abs=0.003)
    assert c1["explained"] == pytest.approx(c1["per_round"] - c1["per_update"])
    assert c1["lo"] < 0.01 < c1["hi"]
    assert c1["seeds"] == 3


def test_ablation_without_enough_n_has_no_table(results, capsys):
    write(results / "tiny", ABLATION, seeds=(0,))
    assert script.main([ABLATION], ["--replot", "--n", "1,4"]) == 0
    assert "Too few of the grid's cells for its table." in capsys.readouterr().out


def test_table_sft_evaluates_each_size_once_before_the_first_update(results, capsys):
    cells, models = SFT.grid(TINY), list(TINY.preset.models)
    assert [cell.stage.model for cell in cells] == models
    assert all(cell.schedule == ON_POLICY and cell.updates == 1 for cell in cells)
    assert [cell.learning_rate_at(0) for cell in cells] == [0.0] * len(models)
    write(results / "tiny", SFT, seeds=(0,))
    folder = results / "tiny" / "checkpoints" / "reward-0.1m"
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(
        '{"pair_digest": "0123456789ab", "reward_agreement": 0.75}'
    )
    assert script.main([SFT], ["--replot"]) == 0
    assert f"Table: {results}/tiny/figures/table_sft.parquet" in capsys.readouterr().out
    table = pd.read_parquet(results / "tiny" / "figures" / "table_sft.parquet")
    assert table["model"].tolist() == models
    assert table["win_rate"].tolist() == [0.5] * len(models)  # as made up at step 0
    assert table["kl_nats"].tolist() == [0.0] * len(models)
    assert table["reward_agreement"].tolist() == [0.75] * len(models)


def fails(capsys, arguments, one=PPO):
    """Return the one line on stderr of a command that must end with status 2."""
    assert script.main([one], arguments) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert "Traceback" not in captured.out
    return line


def test_n_that_does_not_divide_the_updates_is_refused(results, capsys):
    assert fails(capsys, ["--n", "3"]) == (
        "error: reuse(3): N = 3 does not divide updates = 128; allowed: 1, 2, 4, 8, 16, 32, 64, 128"
    )
    assert not results.exists()


def test_replot_without_runs_says_where_it_looked(results, capsys):
    assert fails(capsys, ["--replot"]) == (
        "error: --replot: no runs of fig_offpolicy_ppo at preset tiny in "
        f"{results}/tiny or {results}/reference/tiny; give the command without --replot to run them"
    )


def test_the_record_is_not_run_into_nor_deleted(results, capsys):
    kept = results / "reference" / "tiny" / "checkpoints"
    kept.mkdir(parents=True)
    assert fails(capsys, ["--fresh", "--out", str(kept.parent)]) == (
        f"error: --out {kept.parent}: holds recorded runs; choose another directory"
    )
    assert kept.exists()


def test_a_second_sweep_in_the_same_directory_is_refused(results, capsys):
    (results / "tiny").mkdir(parents=True)
    with (results / "tiny" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert fails(capsys, []) == (
            f"error: another sweep is running in {results}/tiny; "
            "wait for it or choose another --out"
        )


def test_a_checkpoint_without_weights_is_refused(results, capsys):
    path = results / "tiny" / "checkpoints" / preset("tiny").stage().sft().name
    path.mkdir(parents=True)
    line = fails(capsys, [])
    assert line.startswith(f"error: checkpoint {path}: ")
    assert f"delete {path}" in line


@pytest.mark.parametrize(
    ("gpus", "given", "arguments", "message"),
    [
        (4, None, ["--workers", "8"], "this machine has 4 GPUs, and a run needs one; at most 4"),
        (4, "GPU-b", ["--workers", "2"],
         "CUDA_VISIBLE_DEVICES names 1 GPU, and a run needs one; at most 1"),
    ],
)  # fmt: skip
def test_more_workers_than_gpus_are_refused_before_anything_is_deleted_or_run(
    results, tmp_path, monkeypatch, capsys, gpus, given, arguments, message
):
    fake_driver.install(tmp_path, monkeypatch, fake_driver.listing(gpus))
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    write(results / "tiny", PPO, seeds=(0,))
    before = sorted(results.rglob("*.parquet"))
    assert script.main([PPO], ["--fresh", *arguments]) == 2
    assert capsys.readouterr().err == f"error: --workers {arguments[1]}: {message}\n"
    assert sorted(results.rglob("*.parquet")) == before
