"""The record stays valid: what is computed from today's configurations is what was recorded."""

import json

import pytest

from bench.experiments.presets import preset
from bench.paths import record_dir
from bench.records import store
from bench.stages import find
from reproductions.all import discover
from reproductions.options import Options
from reproductions.run import _runs


@pytest.mark.parametrize(("name", "count"), [("tiny", 232), ("worth", 185)])
def test_every_recorded_run_has_the_id_of_a_figures_configuration_and_of_the_recorded_weights(
    name, count
):
    options, place = Options(preset=preset(name), seeds=range(5)), record_dir(name)
    grids = [_runs(one, options) for one in discover() if name in one.presets]
    configs = {(run.config_hash(), run.seed): run for runs in grids for run in runs}
    rows = store.read(place, "runs").to_dict("records")
    assert len(rows) == count
    for row in rows:
        config = configs[row["config_hash"], row["seed"]]
        models = find(config.stage, config.seed, [place / "checkpoints"])
        assert models.digest == row["weights_digest"]
        assert config.run_id(models.digest) == row["run_id"]
        assert config.cell() == json.loads(row["config_json"])
