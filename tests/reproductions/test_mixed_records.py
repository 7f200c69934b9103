"""Records with holes, of several generations and of mixed code: what is said of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.experiments.presets import preset
from bench.records import store
from bench.records.compact import incomplete
from reproductions import run as script
from reproductions.fig_offpolicy_ppo import REPRODUCTION as PPO
from reproductions.loading import load
from reproductions.options import Options
from reproductions.table_sft import REPRODUCTION as SFT
from tests.bench import fakes
from tests.reproductions.test_run import write

ROOT = Path(__file__).parents[2]
TINY = Options(preset=preset("tiny"))


def write_generations(place, *, older, newer):
    """Write made-up runs of PPO at tiny of two generations of weights, seeds of each given."""
    for seeds, digest, day in ((older, "a" * 12, 1), (newer, "b" * 12, 2)):
        for run in (cell.with_seed(seed) for seed in seeds for cell in PPO.grid(TINY)):
            store.write_run(
                place, run, fakes.result(run), preset="tiny", weights_digest=digest,
                provenance={**fakes.PROVENANCE, "started_utc": f"2024-01-0{day}"},
            )  # fmt: skip


def test_runs_of_older_weights_are_left_out_and_named(results, capsys):
    write_generations(results / "tiny", older=range(5), newer=(0, 1))
    assert script.main([PPO], ["--replot"]) == 0
    output = capsys.readouterr().out
    assert f"Data: {results}/tiny (7 of 7 cells, 14 runs)" in output
    assert (
        "Left out: 35 runs from older SFT and reward models (0.1m: aaaaaaaaaaaa); "
        "what counts is the newest (0.1m: bbbbbbbbbbbb)" in output
    )
    lines = output.splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.strip().startswith("C1 "))
    assert "2 of 5 seeds complete" in lines[at + 2]


def test_load_never_mixes_weights_even_where_the_newest_lack_cells(results):
    write_generations(results, older=(0,), newer=())
    new = PPO.grid(TINY)[3]
    store.write_run(
        results, new, fakes.result(new), preset="tiny", weights_digest="b" * 12,
        provenance={**fakes.PROVENANCE, "started_utc": "2024-01-02"},
    )  # fmt: skip
    found = load(results, PPO.grid(TINY), TINY.preset, all_seeds=True)
    assert found.final[["n", "weights_digest"]].to_numpy().tolist() == [[8, "b" * 12]]


def test_mixed_code_is_said_beside_the_data(results, capsys):
    write(results / "tiny", PPO, seeds=(0,), torch="2.12.0")
    write(results / "tiny", PPO, seeds=(1,), git_revision="e" * 40, git_dirty=True, torch="2.13.0")
    assert script.main([PPO], ["--replot"]) == 0
    output = capsys.readouterr().out
    assert (
        f"Data: {results}/tiny (7 of 7 cells, 14 runs)\n"
        "Code: 2 revisions (eeeeeee, fffffff); uncommitted changes in 7 of 14; "
        "torch 2.12.0, 2.13.0\n"
    ) in output


def test_missing_cells_and_diverged_runs_are_named(results, capsys):
    cells = PPO.grid(TINY)
    fakes.write(results / "tiny", cells[0], preset="tiny")
    fakes.write(results / "tiny", cells[1], "diverged", preset="tiny")
    assert script.main([PPO], ["--replot", "--n", "1,2,64"]) == 0
    output = capsys.readouterr().out
    assert "Not run: 1 of 3 cells: 0.1m ppo reuse(64) per_update\n" in output
    assert "Diverged: 1 of 2 runs: 0.1m ppo reuse(2) per_update seed 0\n" in output


def test_a_figure_that_cannot_be_drawn_does_not_stop_the_others(results, capsys):
    def refuse(record):
        raise UserError(f"{len(record.final)} runs are not to be drawn")

    def crash(record):
        raise RuntimeError(f"{len(record.final)} runs")

    write(results / "tiny", PPO, seeds=(0,))
    broken = [replace(PPO, name=one.__name__, draw=one) for one in (crash, refuse)]
    assert script.main([*broken, PPO], ["--replot"]) == 2
    output, errors = capsys.readouterr()
    assert "error: 7 runs are not to be drawn\n" in errors
    assert "RuntimeError: 7 runs\n" in errors
    assert f"Figure: {results}/tiny/figures/fig_offpolicy_ppo.png" in output
    assert script.main([broken[0], PPO], ["--replot"]) == 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "null", '{"pair_digest": "0123456789ab", "reward_agreement": {}}'],
)
def test_table_sft_goes_without_a_damaged_provenance(results, capsys, text):
    write(results / "tiny", SFT, seeds=(0,))
    folder = results / "tiny" / "checkpoints" / "reward-0.1m"
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(text)
    assert script.main([SFT], ["--replot"]) == 0
    assert f"Table: {results}/tiny/figures/table_sft.parquet" in capsys.readouterr().out


@pytest.mark.parametrize("table", ["runs", "evals"])
def test_a_run_without_rows_is_done_again(results, table):
    write(results / "tiny", PPO, seeds=(0,))
    path = next((results / "tiny" / table).iterdir())
    store.write_table(path, table, [])
    assert incomplete(results / "tiny", [path.stem]) == (
        [path.stem],
        [f"{path} is missing or damaged: its run is repeated"],
    )


def test_a_run_without_an_evaluation_is_named(results, capsys):
    write(results / "tiny", PPO, seeds=(0,))
    path = next((results / "tiny" / "evals").iterdir())
    store.write_table(path, "evals", [])
    assert script.main([PPO], ["--replot"]) == 0
    line = f"Left out: 1 runs without an evaluation, first {path.stem}\n"
    assert line in capsys.readouterr().out
