"""Names of what policies start from: what is part of them, and that recorded ones stay."""

from dataclasses import replace

import pytest

from bench.errors import UserError
from bench.experiments.presets import preset
from bench.experiments.stage_configs import tiny_stage
from bench.stage_config import LATER, StageConfig, StageParams, models_key, sft_key
from bench.staleness import ON_POLICY
from bench.tasks.tldr import TldrConfig

TINY = tiny_stage("0.1m")
OTHER = StageParams(sft_steps=9000, comparisons=5)


def test_the_hashes_of_recorded_stages_are_what_they_were():
    # As recorded before SFT and reward models were kept apart.
    found = [preset(name).stage(size).hash() for name, size in (("tiny", "0.1m"), ("tiny", "0.4m"))]
    assert found == ["8413dfbabdf9", "91bd589bbef6"]
    assert preset("smoke").stage().hash() == "277905ea0e5b"


def test_fields_that_came_later_are_told_where_they_are_no_default():
    assert not {"reward_model", "reward_per_seed", "reward_params"} & TINY.identity().keys()
    assert not set(LATER) & TINY.identity()["params"].keys()
    assert set(LATER) < set(vars(StageParams()))
    for name in LATER:
        changed = replace(TINY, params=StageParams(**{name: 0.5}))
        assert changed.identity()["params"][name] == 0.5
        assert changed.hash() != TINY.hash()


def test_the_policys_own_size_is_no_other_size():
    assert replace(TINY, reward_model="0.1m").identity() == TINY.identity()
    assert preset("tiny").stage("0.1m", "0.1m") == TINY
    assert preset("tiny").run_config("rloo", ON_POLICY, reward_model="0.4m").stage == replace(
        TINY, reward_model="0.4m", reward_params=tiny_stage("0.4m").params
    )
    with pytest.raises(UserError, match=r"^reward model '7b': preset tiny has 0\.1m, 0\.4m$"):
        preset("tiny").stage("0.1m", "7b")


def test_the_reward_model_is_part_of_what_a_run_is():
    stages = [
        TINY,
        replace(TINY, reward_model="0.4m"),
        replace(TINY, reward_model="0.4m", reward_params=OTHER),
        replace(TINY, reward_per_seed=True),
        replace(TINY, seed=1),
    ]
    assert len({stage.hash() for stage in stages}) == 5
    identity = stages[2].identity()
    assert identity["reward_model"] == "0.4m"
    assert identity["reward_params"]["comparisons"] == 5
    # What the policy's size says of a reward model is of no effect then.
    assert "comparisons" not in identity["params"]
    assert identity["params"]["sft_steps"] == 4000


def test_an_sft_models_name_is_of_its_own_parameters_alone():
    assert TINY.sft().name == "sft-0.1m-89a637347508"  # where the recorded one is
    for same in (
        replace(TINY, reward_model="0.4m", reward_params=OTHER),
        replace(TINY, reward_per_seed=True),
        replace(TINY, params=StageParams(comparisons=5, reward_weight_decay=0.1)),
    ):
        assert same.sft().name == TINY.sft().name
    for other in (
        replace(TINY, seed=1),
        replace(TINY, params=StageParams(sft_weight_decay=0.1)),
        replace(TINY, task=replace(TINY.task, verbs=15)),
    ):
        assert other.sft().name != TINY.sft().name
    assert replace(TINY, model="owner/name").sft().name.startswith("sft-owner--name-")


def test_a_reward_model_does_not_depend_on_the_policys_size():
    shared = replace(TINY, reward_model="0.4m", reward_params=OTHER)
    own = replace(TINY, model="0.4m", params=OTHER)
    assert shared.reward(3) == own.reward(3)
    assert shared.reward(3).sft == own.sft()
    assert TINY.reward(3).name == "reward-0.1m-7557381f0e9b-s0"  # where the recorded one is


def test_the_reward_models_seed_is_the_runs_or_the_stages():
    stage = replace(TINY, seed=4)
    assert [stage.reward(seed).seed for seed in (0, 3)] == [4, 4]
    per_seed = replace(stage, reward_per_seed=True)
    assert [per_seed.reward(seed).seed for seed in (0, 3)] == [0, 3]
    names = [per_seed.reward(seed).name for seed in (0, 3)]
    assert names[0].removesuffix("-s0") == names[1].removesuffix("-s3")
    assert per_seed.reward(0).sft.seed == 4


def test_keys_of_what_runs_start_from():
    per_seed = replace(TINY, reward_per_seed=True)
    assert TINY.models_key(3) == TINY.models_key(0) == "8413dfbabdf9"
    assert per_seed.models_key(3) == f"{per_seed.hash()}-s3"
    assert models_key(per_seed.identity(), 3) == per_seed.models_key(3)
    for stage in (TINY, per_seed, replace(TINY, reward_model="0.4m", reward_params=OTHER)):
        assert sft_key(stage.identity()) == "89a637347508"  # as in the name of its directory


def test_released_reward_models_have_their_own_size_and_no_seed(monkeypatch):
    monkeypatch.delenv("ASYNC_RLHF_HUB_DIR", raising=False)
    stage = StageConfig(task=TldrConfig(), model="410m", reward_model="2.8b", params=None)
    (sft, _), (_, reward) = (TldrConfig().released(size) for size in ("410m", "2.8b"))
    assert stage.released() == (sft, reward)
    assert TINY.released() is None
    with pytest.raises(UserError, match="tldr: its reward models are released, there is none per"):
        replace(stage, reward_per_seed=True).released()


def test_sizes_in_words():
    assert (TINY.sizes, replace(TINY, reward_model="0.1m").sizes) == ("0.1m", "0.1m")
    assert replace(TINY, reward_model="0.4m").sizes == "0.1m with reward model 0.4m"


def test_params_default_to_presets_tiny():
    assert TINY.params == StageParams()


def test_params_out_of_range_are_refused():
    with pytest.raises(UserError, match="stage parameter comparisons = 0: must be above 0"):
        StageParams(comparisons=0)
    with pytest.raises(UserError, match=r"reward_adam_beta2 = 1\.0: must be below 1"):
        StageParams(reward_adam_beta2=1.0)
    assert StageParams(sft_warmup_steps=0).sft_warmup_steps == 0
