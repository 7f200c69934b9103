from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config import EVALUATION_LATER, LATER, Execution, RunConfig
from bench.errors import UserError
from bench.staleness import ON_POLICY, lag, reuse

from .fake_config import STAGE, FakeAlgorithm

CONFIG = RunConfig(
    stage=STAGE,
    algorithm=FakeAlgorithm(),
    schedule=reuse(4),
    updates=8,
    prompts_per_batch=4,
    learning_rate=1.0,
    max_completion_tokens=5,
)


def test_learning_rate_per_update_decays_linearly_whatever_n():
    # 1 - (u + 1) / 8
    expected = [0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0]
    for schedule in (ON_POLICY, reuse(4), lag(3)):
        config = replace(CONFIG, schedule=schedule)
        assert [config.learning_rate_at(u) for u in range(8)] == expected


def test_learning_rate_per_round_is_the_authors():
    # rounds b = 1, 2 of B = 8 / 4 = 2: lr0 * (1 - b / B) = .5, 0
    config = replace(CONFIG, lr_schedule="per_round")
    assert [config.learning_rate_at(u) for u in range(8)] == [0.5] * 4 + [0.0] * 4


def test_learning_rate_budget_of_256_updates_matches_the_papers_table():
    # 128 * (1 - N / 256) update-equivalents: 127.5 at N = 1, 112 at 32, 96 at 64
    for n, budget in ((1, 127.5), (2, 127), (4, 126), (8, 124), (16, 120), (32, 112), (64, 96)):
        config = replace(CONFIG, schedule=reuse(n), updates=256, lr_schedule="per_round")
        assert sum(config.learning_rate_at(u) for u in range(256)) == pytest.approx(budget)


def test_a_field_that_came_later_is_part_of_the_identity_where_it_is_no_default():
    assert set(LATER) <= set(vars(CONFIG))
    assert set(EVALUATION_LATER) <= set(vars(CONFIG.evaluation))
    assert not {"lr_scale", "engine_rows"} & CONFIG.cell().keys()
    assert "rows" not in CONFIG.cell()["evaluation"]
    scaled = replace(CONFIG, lr_scale="ess")
    assert scaled.cell() == {**CONFIG.cell(), "lr_scale": "ess"}
    assert scaled.config_hash() != CONFIG.config_hash()
    assert replace(CONFIG, engine_rows=4).cell() == {**CONFIG.cell(), "engine_rows": 4}
    apart = replace(CONFIG, evaluation=replace(CONFIG.evaluation, rows=8))
    evaluation = {**CONFIG.cell()["evaluation"], "rows": 8}
    assert apart.cell() == {**CONFIG.cell(), "evaluation": evaluation}
    with pytest.raises(UserError, match="lr_scale = 'sqrt': allowed are none, ess"):
        replace(CONFIG, lr_scale="sqrt")
    with pytest.raises(UserError, match="engine_rows = 0: must be at least 1"):
        replace(CONFIG, engine_rows=0)
    with pytest.raises(UserError, match=r"evaluation\.rows = 0: must be at least 1"):
        replace(CONFIG, evaluation=replace(CONFIG.evaluation, rows=0))
    assert replace(CONFIG, max_age_updates=2).cell() == {**CONFIG.cell(), "max_age_updates": 2}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_age_updates": -1}, "max_age_updates = -1: must be at least 0"),
        ({"max_age_updates": 1, "tokens_per_update": 0}, "tokens_per_update = 0: must be at least"),
        ({"max_age_updates": 1, "late": "pace"}, "late = 'pace': allowed are withhold, drop"),
        ({"late": "drop"}, "say nothing without max_age_updates"),
        ({"tokens_per_update": 3}, "say nothing without max_age_updates"),
    ],
)
def test_what_is_too_old_must_make_sense(fields, message):
    with pytest.raises(UserError, match=message):
        replace(CONFIG, **fields)


@given(st.integers(1, 50), st.integers(0, 49))
def test_both_schedules_are_one_at_n_1(updates, step):
    config = replace(CONFIG, schedule=reuse(1), updates=updates)
    per_round = replace(config, lr_schedule="per_round")
    assert config.learning_rate_at(step) == per_round.learning_rate_at(step)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": "slurm"}, "workers = 'slurm': allowed are local, ray"),
        ({"workers": "ray"}, "workers = 'ray': the engine is on other cores, source must be"),
        ({"max_logprob_gap_nats": 0.0}, "max_logprob_gap_nats = 0.0: must be above 0"),
        ({"engine_cpus": 0}, "engine_cpus must be at least 1 and engine_gpus at least 0"),
    ],
)
def test_execution_refuses_what_cannot_be_done(change, message):
    with pytest.raises(UserError, match=message):
        Execution(**change)


def test_hash_names_the_cell_and_run_id_adds_seed_and_weights():
    assert CONFIG.config_hash() == CONFIG.with_seed(3).config_hash()
    assert CONFIG.config_hash() != replace(CONFIG, learning_rate=2.0).config_hash()
    assert CONFIG.run_id("a") != CONFIG.run_id("b")
    assert CONFIG.with_seed(3).run_id("a") == CONFIG.run_id("a").replace("-s0", "-s3")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": reuse(3)}, "N = 3 does not divide updates = 8; allowed: 1, 2, 4, 8"),
        ({"updates": 0}, "updates = 0: must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate and temperature must be above 0"),
        ({"lr_schedule": "cosine"}, "allowed are per_update, per_round"),
    ],
)
def test_config_refuses_what_cannot_run(change, message):
    with pytest.raises(UserError, match=message):
        replace(CONFIG, **change)


def test_an_engine_device_is_for_an_engine_in_its_own_process_here():
    assert Execution(source="overlapped", engine_device="cpu").engine_device == "cpu"
    for other in ({}, {"source": "overlapped", "workers": "ray"}):
        with pytest.raises(UserError, match="engine_device = 'cpu': only an engine in a process"):
            Execution(**other, engine_device="cpu")
