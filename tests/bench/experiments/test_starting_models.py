"""Which models are trained before runs, and in what order."""

import shutil
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from bench.experiments import sweep
from bench.experiments.presets import preset
from bench.experiments.starting_models import starting_models
from bench.paths import record_dir
from bench.stages import resolve
from tests.bench import fakes
from tests.bench.stages.test_stages import REWARD, SFT, STAGE

from .build_jobs import note


def start(results_dir, configs, record=None):
    return starting_models(
        configs, results_dir=results_dir, record_dir=record, workers=2,
        console=Console(file=StringIO()),
    )  # fmt: skip


def of(stage, *seeds):
    return [replace(fakes.config(seed=seed), stage=stage) for seed in seeds]


def test_all_sft_models_are_trained_before_the_reward_models_and_each_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_build", note)
    per_seed = replace(STAGE, reward_model="0.1m", reward_per_seed=True)
    configs = [*of(STAGE, 0, 1), *of(per_seed, 0, 1), *of(replace(STAGE, model="0.1m"), 0)]
    assert start(tmp_path, configs) == {}  # nobody really trained them
    lines = [line.split() for line in (tmp_path / "built").read_text().splitlines()]
    larger, smaller = per_seed.reward(0), STAGE.reward(0)
    begun = [name for name, what in lines if what == "begins"]
    assert set(begun[:2]) == {larger.sft.name, smaller.sft.name}
    # Of the larger size seed 0 is asked for twice: by seed, and by all runs of a policy of its own.
    assert set(begun[2:]) == {smaller.name, larger.name, per_seed.reward(1).name}
    assert len(begun) == 5
    assert [what for _, what in lines[:4]].count("ends") == 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a results directory with models."""
    results_dir = tmp_path_factory.mktemp("trained")
    resolve(STAGE, 0, cache_dir=results_dir / "checkpoints")
    return results_dir


def test_a_reward_model_may_start_from_a_recorded_sft_model(tmp_path, trained):
    record = tmp_path / "record" / "checkpoints"
    shutil.copytree(trained / "checkpoints" / SFT, record / SFT)
    found = start(tmp_path / "mine", of(STAGE, 0, 1), record.parent)
    assert list(found) == [STAGE.hash()]
    (models,) = found.values()
    assert models.sft_dir == record / SFT
    made = tmp_path / "mine" / "checkpoints"
    assert [path.name for path in made.iterdir()] == [REWARD]
    weights = [place / REWARD / "model.safetensors" for place in (made, trained / "checkpoints")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_models_are_keyed_by_seed_where_each_has_its_reward_model(trained):
    per_seed = replace(STAGE, reward_per_seed=True)
    resolve(per_seed, 1, cache_dir=trained / "checkpoints")
    found = start(trained, of(per_seed, 0, 1))
    assert list(found) == [f"{per_seed.hash()}-s0", f"{per_seed.hash()}-s1"]
    first, second = found.values()
    assert (first.sft_dir, first.reward_dir.name) == (second.sft_dir, REWARD)
    assert first.digest != second.digest


def test_the_recorded_models_are_found():

    configs = [
        replace(fakes.config(), stage=preset("tiny").stage(size)) for size in ("0.1m", "0.4m")
    ]
    found = start(record_dir("tiny"), configs)
    assert {key: models.digest for key, models in found.items()} == {
        "8413dfbabdf9": "bc3ff15c0708",
        "91bd589bbef6": "96fe9d88e075",
    }
