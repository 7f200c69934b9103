from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

from bench.config import Execution
from bench.engines.vllm import VllmEngine
from bench.errors import UserError
from bench.processes.worker import WorkerError
from bench.randomness import PromptStream, sample_seeds
from bench.sources import OverlappedSource
from bench.sources.handoff import Handoff, HandoffError, checksum
from bench.staleness import bounded, lag
from bench.types import Prompt, Sampling, WeightSnapshot

from ...conftest import VOCABULARY
from ..live_processes import eventually
from .conftest import TOKENS, Borrowed, gap, learner_logprobs, policy, start


@pytest.fixture
def call(vllm):
    return lambda method, *args: vllm.submit(method, *args).result(timeout=120)


def source(vllm, prompts, schedule, **options):
    """Return a source of two batches of 6 prompts, 4 completions each."""
    return OverlappedSource(
        lambda directory: Borrowed(vllm, directory, **options),
        Handoff(),
        schedule,
        PromptStream(prompts, 6, seed=0),
        Sampling(1.0, 12, 4),
        seed=0,
        batches=2,
        execution=Execution(source="overlapped"),
    )


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed")
def test_engine_says_that_vllm_is_not_installed(tmp_path):
    with pytest.raises(UserError, match=r"^engine 'vllm' is not installed: install the extra"):
        VllmEngine(tmp_path, **TOKENS)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ('{"model_type": "none such"}', "The checkpoint you are trying to load has model type"),
        ("{}", "Unrecognized model in "),
    ],
)
def test_engine_refuses_what_is_no_model(call, tmp_path, config, why):
    (tmp_path / "config.json").write_text(config)
    refusal = call("refusal", tmp_path)
    assert refusal.startswith(f"vLLM cannot serve {tmp_path}: {why}")
    assert "\n" not in refusal


def test_engine_refuses_a_model_that_generates_nothing(call, tmp_path):
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
    BertForMaskedLM(BertConfig(**shape, vocab_size=VOCABULARY)).save_pretrained(tmp_path)
    refusal = call("refusal", tmp_path)
    assert refusal.startswith(f"vLLM cannot serve {tmp_path}: Embedding models do not support")


def test_generate_refuses_what_vllm_would_change_in_silence(call, prompts):
    with pytest.raises(UserError, match=r"temperature = 0.001: vLLM takes 0.01 and above"):
        call("generate", prompts, Sampling(0.001, 4), [0] * 6)
    long = (Prompt(0, (2,) * 310),)
    with pytest.raises(UserError, match=r"prompt of 310 and a completion of 11 tokens.* is 320"):
        call("generate", long, Sampling(1.0, 11), [0])
    assert call("generate", long, Sampling(1.0, 10), [0]).prompt_tokens.shape == (1, 310)


def test_generate_takes_more_prompt_tokens_than_one_step_computes(call):
    rng = np.random.default_rng(0)  # 60 x 200 = 12,000 tokens; vLLM computes 2,048 at most
    prompts = [Prompt(i, tuple(rng.integers(2, VOCABULARY, 200).tolist())) for i in range(60)]
    model = policy(seed=0)
    call("load", WeightSnapshot(1, model.state_dict()))
    rollouts = call("generate", prompts, Sampling(1.0, 2), sample_seeds(0, 0, prompts, 1))
    assert gap(model, rollouts) < 1e-4


def test_update_in_flight_changes_the_policy_between_two_tokens(call, prompts):
    old, new = policy(seed=0), policy(seed=1)
    sampling, seeds = Sampling(1.0, 12, 4), sample_seeds(0, 0, prompts, 4)
    call("load", WeightSnapshot(10, old.state_dict()))
    undisturbed = call("generate", prompts, sampling, seeds)
    assert undisturbed.token_versions is None

    snapshot = WeightSnapshot(11, new.state_dict())
    rollouts = call("generate_with_update", prompts, sampling, seeds, snapshot, 5)
    mask, versions = rollouts.completion_mask, rollouts.token_versions
    # All 24 rows are prefilled and sampled from in the first step, so that 5 steps are 5 tokens.
    expected = torch.tensor([10] * 5 + [11] * 7).expand(24, 12)[:, : mask.shape[1]]
    assert torch.equal(versions, expected.where(mask, -1))
    assert rollouts.policy_version == 10
    assert torch.equal(rollouts.completion_tokens[:, :5], undisturbed.completion_tokens[:, :5])
    # Of old tokens the new weights think what the old ones would have computed with them.
    before, after = mask & (versions == 10), mask & (versions == 11)
    assert int(after.sum()) > 24
    for model, mine, other in ((old, before, after), (new, after, before)):
        difference = (learner_logprobs(model, rollouts) - rollouts.logprobs).abs()
        assert difference[mine].max() < 1e-4
        assert difference[other].max() > 0.5
    assert gap(new, call("generate", prompts, sampling, seeds)) < 1e-4


def test_weights_published_during_a_batch_are_used_from_the_next_token_on(vllm, prompts, tmp_path):
    old, new, marker = policy(seed=0), policy(seed=1), tmp_path / "four tokens are sampled"
    this = source(vllm, prompts, bounded(1), wait_s=60.0, marker=marker)
    try:
        this.publish(WeightSnapshot(0, old.state_dict()))
        first = this.next()
        assert eventually(marker.exists, within_s=60)
        this.publish(WeightSnapshot(1, new.state_dict()))
        second = this.next()
    finally:
        this.close()
    assert first.token_versions[first.completion_mask].unique().tolist() == [0]
    assert gap(old, first) < 1e-4

    mask, versions = second.completion_mask, second.token_versions
    expected = torch.tensor([0] * 4 + [1] * 8).expand(24, 12)[:, : mask.shape[1]]
    assert torch.equal(versions, expected.where(mask, -1))
    assert second.policy_version == 0
    # It is batch 1: a token of version 0 is one step stale, one of version 1 is not.
    stale = int((versions == 0).sum()) / int(mask.sum())
    assert 0 < stale < 1
    assert second.transfer["token_staleness_mean"] == pytest.approx(stale)
    for model, version in ((old, 0), (new, 1)):
        difference = (learner_logprobs(model, second) - second.logprobs).abs()
        assert difference[versions == version].max() < 1e-4
        assert difference[mask & (versions != version)].max() > 0.5


@pytest.mark.parametrize("schedule", [lag(0), bounded(1)], ids=str)
def test_a_load_that_went_wrong_stops_the_run(vllm, prompts, schedule):
    this = source(vllm, prompts, schedule, lie=1e-6)
    try:
        this.publish(WeightSnapshot(0, policy(seed=0).state_dict()))
        with pytest.raises(HandoffError, match=r"^the engine's weights are not the learner's: ver"):
            this.next()
    finally:
        this.close()


def test_update_before_the_first_token_leaves_one_version(call, prompts):
    call("load", WeightSnapshot(20, policy(seed=0).state_dict()))
    snapshot = WeightSnapshot(21, policy(seed=1).state_dict())
    rollouts = call("generate_with_update", prompts, Sampling(1.0, 4), [1] * 6, snapshot, 0)
    assert rollouts.policy_version == 21
    assert rollouts.token_versions[rollouts.completion_mask].unique().tolist() == [21]


def test_failure_in_a_batch_leaves_nothing_of_it(call, prompts):
    model = policy(seed=0)
    call("load", WeightSnapshot(30, model.state_dict()))
    sampling, seeds = Sampling(1.0, 12), sample_seeds(0, 0, prompts, 1)
    expected = call("generate", prompts, sampling, seeds)
    with pytest.raises(WorkerError, match="no more"):
        call("fail_after", prompts, sampling, seeds, 3)
    rollouts = call("generate", prompts, sampling, seeds)
    assert rollouts.completions() == expected.completions()


def test_engine_reads_back_weights_that_vllm_stacks(vllm, tmp_path, prompts):
    # vLLM has a Llama of its own: q, k, v in one matrix, gate and up in another, embeddings tied
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    del vllm  # is installed
    worker = start(partial(VllmEngine, tmp_path, **TOKENS))
    try:
        worker.submit("load", WeightSnapshot(1, model.state_dict())).result(timeout=60)
        assert worker.submit("checksum").result(timeout=60) == checksum(model.state_dict())
        seeds = sample_seeds(0, 0, prompts, 2)
        rollouts = worker.submit("generate", prompts, Sampling(0.7, 8, 2), seeds).result(60)
    finally:
        worker.close()
    assert gap(model, rollouts, 0.7) < 1e-4
