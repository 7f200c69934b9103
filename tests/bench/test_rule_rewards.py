"""A task whose rewards are by rule: no reward model is trained, loaded or asked for."""

import pytest
import torch

from bench import algorithms
from bench.assembly import HEAD, assemble
from bench.config import EvalConfig, RunConfig
from bench.errors import UserError
from bench.experiments.presets import preset
from bench.loop import train
from bench.planning.fit import shapes
from bench.planning.measure import untrained
from bench.planning.memory import memory
from bench.stage_config import StageConfig, StageParams
from bench.stages import find, missing, resolve
from bench.staleness import ON_POLICY, reuse
from bench.tasks.arithmetic import ArithmeticConfig

pytest.importorskip("reasoning_gym")

TASK = ArithmeticConfig(
    least_terms=2, most_terms=2, most_digits=1, train_prompts=16, tuning_prompts=8, eval_prompts=8
)
PARAMS = StageParams(sft_steps=20, sft_batch_size=8, sft_warmup_steps=5)
STAGE = StageConfig(task=TASK, model="smoke", params=PARAMS)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cache")
    resolve(STAGE, 0, cache_dir=directory)
    return directory


@pytest.fixture
def models(cache_dir):
    return find(STAGE, 0, [cache_dir])


def config(algorithm: str, **changes) -> RunConfig:
    return RunConfig(
        stage=STAGE,
        algorithm=algorithms.build(algorithm),
        schedule=ON_POLICY,
        updates=2,
        prompts_per_batch=4,
        learning_rate=1e-3,
        max_completion_tokens=TASK.reference_tokens,
        missing_eos_penalty=None,
        evaluation=EvalConfig(every=1, prompts=8, samples=2),
        **changes,
    )


def test_only_the_sft_model_is_trained(cache_dir, models, tmp_path):
    assert STAGE.reward(0) is None
    assert [part.name for part in missing(STAGE, 0, [tmp_path])] == [STAGE.sft().name]
    assert [path.name for path in cache_dir.iterdir()] == [STAGE.sft().name]
    assert models.reward_dir is None
    assert models.digest == models.sft_digest
    assert models.directories() == [models.sft_dir]


@pytest.mark.parametrize("algorithm", ["ppo", "rloo", "online_dpo", "grpo"])
def test_the_reward_of_training_and_evaluation_is_the_rules(models, algorithm):
    result = train(config(algorithm), models)
    assert result.status == "completed"
    for step in result.steps:
        assert 0 <= step.reward_mean <= 1
    for one in result.evals:
        assert one.reward_mean == one.gold_mean == one.win_rate  # the share of right answers
    assert {outcome.outcome for outcome in result.outcomes} <= {"win", "loss"}


def test_values_start_at_zero_on_the_sft_models_body(models):
    source, learner, _ = assemble(config("ppo"), models)
    source.close()
    values = learner.value_model
    assert not values.get_parameter(HEAD).any()
    policy, body = learner.policy.state_dict(), values.state_dict()
    same = [name for name in body if name in policy]
    assert len(same) > 20
    assert all(torch.equal(body[name], policy[name]) for name in same)


def test_a_preset_takes_the_task_without_its_own_reward_model_and_with_room_for_answers():
    worth = preset("worth", task="arithmetic")
    run = worth.run_config("rloo", reuse(4))
    assert (run.stage.reward_model, run.stage.reward_per_seed) == (None, False)
    assert run.missing_eos_penalty is None
    assert run.max_completion_tokens == run.stage.task.reference_tokens == 39
    with pytest.raises(UserError, match=r"'0.4m': task arithmetic rewards by a rule"):
        worth.run_config("rloo", reuse(4), reward_model="0.4m")


def test_memory_has_no_reward_model_and_values_of_the_policys_size():
    worth = preset("worth", task="arithmetic")
    run = worth.run_config("ppo", ON_POLICY)
    policy, reward = shapes(run)
    assert reward is None
    needed, _ = memory(run, policy, reward, prompt_tokens=12)
    assert needed.lasting["reward model"] == 0
    assert needed.lasting["optimiser"] == 8 * (policy.language_model + policy.scorer)


def test_a_machine_is_measured_without_a_reward_model(tmp_path):
    assert untrained(config("rloo"), tmp_path).reward_dir is None
    assert {path.name for path in tmp_path.iterdir()} == {"sft"}
