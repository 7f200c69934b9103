"""What a sweep will write, and what it does where there is no room for it."""

import shutil
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from bench.errors import UserError
from bench.experiments import space, starting_models
from bench.experiments.presets import preset
from bench.paths import record_dir
from bench.records import store
from bench.records.schemas import SCHEMAS
from bench.staleness import ON_POLICY, reuse
from tests.bench import fakes
from tests.bench.experiments.test_sweep import run as sweep

TINY = preset("tiny").run_config("ppo", reuse(16))


def free(monkeypatch, number):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=number))


def test_a_runs_estimate_is_within_a_factor_of_two_of_what_is_written(tmp_path):
    run_ids = store.read(record_dir("tiny"), "runs").query("timed.isna()")["run_id"][::40]
    for run_id in run_ids:
        for table in SCHEMAS:
            rows = store.read_arrow(record_dir("tiny"), table, [run_id])
            store.write_arrow(tmp_path / table / f"{run_id}.parquet", rows)
        written = sum(path.stat().st_size for path in tmp_path.glob(f"*/{run_id}.parquet"))
        assert written / 2 < space.run_bytes(TINY) < 2 * written


def test_the_models_estimate_is_within_a_factor_of_two_of_those_recorded():
    paths = (record_dir("tiny") / "checkpoints").glob("*/model.safetensors")
    written = sum(path.stat().st_size for path in paths)
    stages = [preset("tiny").stage(model) for model in preset("tiny").models]
    models = [model for stage in stages for model in (stage.sft(), stage.reward(0))]
    assert written / 2 < space.needed_bytes([], workers=1, models=models) < 2 * written


def test_unfinished_runs_are_counted_once_per_worker():
    one, many = (space.needed_bytes([TINY] * 10, workers=n) for n in (1, 4))
    assert many - one == 3 * 6 * 4 * 100_000  # weights and two moments of 0.1m, twice
    assert one == 10 * space.run_bytes(TINY) + 6 * 4 * 100_000


def test_a_sweep_without_room_starts_nothing(tmp_path, monkeypatch):
    runs = [fakes.config(seed=seed) for seed in range(100)]
    sweep(tmp_path, runs[:1])
    free(monkeypatch, 1_000_000)
    with pytest.raises(UserError) as raised:
        sweep(tmp_path, runs)
    assert str(raised.value) == (
        f"results directory {tmp_path}: 99 runs need about 4 MB of disk space, 1 MB are free; "
        "free some or choose another with --out"
    )
    assert len(list((tmp_path / "executed").iterdir())) == 1
    assert sweep(tmp_path, runs[:1])  # nothing to do, nothing needed


def test_no_stage_is_trained_without_room_for_it(tmp_path, monkeypatch):
    free(monkeypatch, 3_000_000)
    run = preset("tiny").run_config("ppo", ON_POLICY, model="0.4m")
    with pytest.raises(UserError, match=r"1 runs need about 13 MB of disk space, 3 MB are free"):
        starting_models.starting_models(
            [run], results_dir=tmp_path / "new", record_dir=None, workers=1,
            console=Console(file=StringIO()),
        )  # fmt: skip
    assert not (tmp_path / "new").exists()


def test_sizes_are_said_in_megabytes_and_gigabytes():
    assert [space.size(number) for number in (12_345_678, 3_400_000_000)] == ["12 MB", "3.4 GB"]
