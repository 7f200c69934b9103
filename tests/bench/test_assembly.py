from dataclasses import replace

import pytest
import torch
from transformers import GPTNeoXForCausalLM

from bench import algorithms, assembly
from bench.assembly import assemble, engine_place, usable_device
from bench.config import EvalConfig, Execution, RunConfig
from bench.errors import UserError
from bench.learning.parallel import Ranks
from bench.processes.devices import deal
from bench.processes.pool import Job, run_jobs
from bench.stage_config import StageConfig, StageParams
from bench.staleness import lag
from bench.tasks.tldr_tiny.world import TldrTinyConfig
from bench.types import StageModels

from ..conftest import neox_config
from .gpu_jobs import assemble_there


def test_without_a_name_a_gpu_is_used_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_device(None) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert usable_device(None) == "cuda"
    assert usable_device("cuda:1") == "cuda:1"
    with pytest.raises(
        UserError, match="device 'cuda:2': this machine has cpu, cuda, cuda:0, cuda:1"
    ):
        usable_device("cuda:2")


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"device 'cuda': this machine has cpu$"):
        usable_device("cuda")


@pytest.mark.parametrize(
    ("count", "given", "learner", "named", "expected"),
    [
        (0, None, "cpu", None, ("cpu", ())),
        (1, None, "cuda", None, ("cuda", ("0",))),
        (1, "GPU-a", "cuda", None, ("cuda", ("GPU-a",))),
        (2, None, "cuda", None, ("cuda", ("1",))),
        (2, "GPU-a,GPU-b", "cuda", None, ("cuda", ("GPU-b",))),
        (2, "3,5", "cuda:0", None, ("cuda", ("5",))),
        (2, "3,5", "cuda:1", None, ("cuda", ("3",))),
        (4, "0,1,2,3", "cuda:1", "cuda:3", ("cuda", ("3",))),
        (4, "4,5,6,7", "cuda:1", "cuda", ("cuda", ("4",))),
        (4, None, "cuda:1", "cuda:1", ("cuda", ("1",))),
        (2, None, "cuda", "cpu", ("cpu", ())),
        (2, None, "cpu", None, ("cpu", ())),
        (2, None, "cpu", "cuda:1", ("cuda", ("1",))),
        (1, "0,9", "cuda", None, ("cuda", ("0",))),  # CUDA sees no tenth
        (1, "MIG-a,MIG-b", "cuda", None, ("cuda", ("MIG-b",))),  # CUDA shows the first alone
    ],
)
def test_an_engine_in_a_process_of_its_own_has_a_gpu_of_its_own_where_there_are_two(
    monkeypatch, count, given, learner, named, expected
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert engine_place(learner, named) == expected


def test_a_device_for_the_engine_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^device 'cuda:1': this machine has cpu$"):
        engine_place("cpu", "cuda:1")


WORLD = TldrTinyConfig(
    subjects=2, verbs=4, objects=4, statements=3, max_own=2, max_clauses=3,
    train_prompts=8, tuning_prompts=8, eval_prompts=8,
)  # fmt: skip


@pytest.mark.parametrize(
    ("gpus", "given", "expected"),
    [
        (0, {}, ("cpu", None)),
        (4, {"device": "cpu"}, ("cpu", None)),
        (3, {}, ("cuda:2", None)),
        (4, {"source": "overlapped"}, ("cuda:2", "cuda:3")),  # after those of three ranks
        (3, {"source": "overlapped"}, ("cuda:2", "cuda:0")),  # none is left: rank 0's
        (4, {"source": "overlapped", "engine_device": "cpu"}, ("cuda:2", "cpu")),
        (4, {"source": "overlapped", "workers": "ray"}, ("cuda:2", None)),
    ],
)
@pytest.mark.usefixtures("third_of_three")
def test_each_rank_has_a_gpu_of_its_own(monkeypatch, gpus, given, expected):
    monkeypatch.setattr(assembly, "_gpu_count", lambda: gpus)
    found = assembly.on_rank(Execution(**given))
    assert (found.device, found.engine_device) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "3 ranks need a GPU each, this machine has 2"),
        ({"device": "cuda:1"}, "ranks cannot have the same device or cores"),
        ({"pin_cores": True}, "ranks cannot have the same device or cores"),
    ],
)
@pytest.mark.usefixtures("third_of_three")
def test_what_ranks_cannot_share_is_refused(monkeypatch, given, message):
    monkeypatch.setattr(assembly, "_gpu_count", lambda: 2)
    with pytest.raises(UserError, match=message):
        assembly.on_rank(Execution(**given))


@pytest.fixture
def third_of_three(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")


@pytest.fixture
def models(policy, reward_model, tmp_path) -> StageModels:
    """Return checkpoints with a vocabulary of 16, one more than the world's."""
    policy.save_pretrained(tmp_path / "sft")
    reward_model.save_pretrained(tmp_path / "reward")
    return StageModels(tmp_path / "sft", tmp_path / "reward", "", "")


def run_config(world: TldrTinyConfig = WORLD) -> RunConfig:
    return RunConfig(
        stage=StageConfig(task=world, model="smoke", params=StageParams()),
        algorithm=algorithms.build("ppo"),
        schedule=lag(1),
        updates=1,
        prompts_per_batch=2,
        learning_rate=0.01,
        max_completion_tokens=8,
        evaluation=EvalConfig(prompts=2, samples=2),
    )


def refusal(models: StageModels, world: TldrTinyConfig = WORLD) -> str:
    with pytest.raises(UserError) as raised:
        assemble(run_config(world), models)
    return str(raised.value)


def test_a_reward_model_without_a_score_head_is_refused(models, policy):
    policy.save_pretrained(models.reward_dir)
    assert refusal(models) == f"{models.reward_dir}: its *.safetensors have no score.weight"


def test_an_sft_model_without_a_language_model_head_is_refused(models, reward_model):
    reward_model.save_pretrained(models.sft_dir)
    assert refusal(models) == f"{models.sft_dir}: its *.safetensors have no lm_head.weight"


def test_more_ranks_than_prompts_are_refused(models):
    ranks = Ranks()
    ranks.size = 3
    with pytest.raises(UserError, match=r"3 ranks: .* prompts_per_batch = 2"):
        assemble(run_config(), models, ranks=ranks)
    ranks.size = 2
    dropping = replace(run_config(), max_age_updates=1, late="drop")
    with pytest.raises(UserError, match="late = 'drop': what is left may be too little"):
        assemble(dropping, models, ranks=ranks)


def test_a_model_with_a_smaller_vocabulary_than_the_tasks_is_refused(models):
    too_small = "vocabulary of {} tokens, must be at least the tokenizer's {}"
    assert refusal(models, replace(WORLD, verbs=6)) == (
        f"{models.reward_dir}: {too_small.format(16, 17)}"
    )
    GPTNeoXForCausalLM(neox_config(vocab_size=14)).save_pretrained(models.sft_dir)
    assert refusal(models) == f"{models.sft_dir}: {too_small.format(14, 15)}"


@pytest.mark.parametrize("part", ["sft_dir", "reward_dir"])
def test_a_damaged_config_of_a_model_is_refused_in_one_line(models, part):
    directory = getattr(models, part)
    (directory / "config.json").write_text('{"model_type": "gpt_n')
    message = refusal(models)
    assert message.startswith(f"{directory}: ")
    assert "not a valid JSON file" in message
    assert "\n" not in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpus", "executions", "expected"),
    [
        (("GPU-a",), [{}], ["learner on cuda of GPU-a, engine on cuda of GPU-a"]),
        (
            ("GPU-a", "GPU-b"),
            [{}, {"device": "cuda:1", "engine_device": "cuda:0"}],
            [
                "learner on cuda of GPU-a,GPU-b, engine on cuda of GPU-b",
                "learner on cuda:1 of GPU-a,GPU-b, engine on cuda of GPU-a",
            ],
        ),
    ],
)
def test_learner_and_engine_see_their_gpus(models, tmp_path, gpus, executions, expected):
    config = replace(run_config(), engine="telling")
    jobs = [Job("a run", "run", 1, (config, models, one)) for one in executions]
    events = run_jobs(jobs, assemble_there, workers=deal(gpus, 1, 2), log_dir=tmp_path)
    ends = [event for event in events if event.kind != "started"]
    assert [event.result or event.error for event in ends] == expected
