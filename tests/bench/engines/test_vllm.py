from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench.config import ConfigError
from bench.engines.vllm import VllmEngine
from bench.handoff import checksum
from bench.sampling import sample_seeds
from bench.types import Prompt, Sampling, WeightSnapshot
from bench.workers import LocalWorker, WorkerError

from ...conftest import EOS, PAD, VOCABULARY
from .test_contract import gap, learner_logprobs, policy
from .vllm_hosts import InFlight

TOKENS = {"pad_token_id": PAD, "eos_token_id": EOS}
needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vllm is not installed: `tox -e vllm` runs this"
)


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    policy(seed=0).save_pretrained(directory)
    worker = LocalWorker(partial(InFlight, directory, **TOKENS), name="vllm")
    worker.ready.result(timeout=300)
    yield lambda method, *args: worker.submit(method, *args).result(timeout=120)
    worker.close()


def refusal(directory, **arguments):
    """Return why an engine cannot start."""
    worker = LocalWorker(partial(VllmEngine, directory, **TOKENS, **arguments), name="vllm")
    try:
        with pytest.raises(ConfigError) as refused:
            worker.ready.result(timeout=300)
    finally:
        worker.close()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed")
def test_engine_says_that_vllm_is_not_installed(tmp_path):
    with pytest.raises(ConfigError, match=r"^engine 'vllm' is not installed: install the extra"):
        VllmEngine(tmp_path, **TOKENS)


@needs_vllm
def test_engine_refuses_heads_that_vllm_cannot_serve(tmp_path, policy):
    policy.save_pretrained(tmp_path)  # width 16, 2 heads
    assert "attention heads of size 8: on a CPU it allows 32, 64" in refusal(tmp_path)


@needs_vllm
def test_engine_refuses_what_is_no_model(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no such architecture"}')
    assert refusal(tmp_path).startswith(f"vLLM cannot serve {tmp_path}: ")


@needs_vllm
def test_generate_refuses_what_vllm_would_change_in_silence(call, prompts):
    with pytest.raises(ConfigError, match=r"temperature = 0.001: vLLM takes 0.01 and above"):
        call("generate", prompts, Sampling(0.001, 4), [0] * 6)
    long = (Prompt(0, (2,) * 310),)
    with pytest.raises(ConfigError, match=r"prompt of 310 and a completion of 11 tokens.* is 320"):
        call("generate", long, Sampling(1.0, 11), [0])
    assert call("generate", long, Sampling(1.0, 10), [0]).prompt_tokens.shape == (1, 310)


@needs_vllm
def test_generate_takes_more_prompt_tokens_than_one_step_computes(call):
    rng = np.random.default_rng(0)  # 60 x 200 = 12,000 tokens; vLLM computes 8,192 at most
    prompts = [Prompt(i, tuple(rng.integers(2, VOCABULARY, 200).tolist())) for i in range(60)]
    model = policy(seed=0)
    call("load", WeightSnapshot(1, model.state_dict()))
    rollouts = call("generate", prompts, Sampling(1.0, 2), sample_seeds(0, 0, prompts, 1))
    assert gap(model, rollouts) < 1e-4


@needs_vllm
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
        difference = (learner_logprobs(model, rollouts, 1.0) - rollouts.logprobs).abs()
        assert difference[mine].max() < 1e-4
        assert difference[other].max() > 0.5
    assert gap(new, call("generate", prompts, sampling, seeds)) < 1e-4


@needs_vllm
def test_update_before_the_first_token_leaves_one_version(call, prompts):
    call("load", WeightSnapshot(20, policy(seed=0).state_dict()))
    snapshot = WeightSnapshot(21, policy(seed=1).state_dict())
    rollouts = call("generate_with_update", prompts, Sampling(1.0, 4), [1] * 6, snapshot, 0)
    assert rollouts.policy_version == 21
    assert rollouts.token_versions[rollouts.completion_mask].unique().tolist() == [21]


@needs_vllm
def test_failure_in_a_batch_leaves_nothing_of_it(call, prompts):
    model = policy(seed=0)
    call("load", WeightSnapshot(30, model.state_dict()))
    sampling, seeds = Sampling(1.0, 12), sample_seeds(0, 0, prompts, 1)
    expected = call("generate", prompts, sampling, seeds)
    with pytest.raises(WorkerError, match="no more"):
        call("fail_after", prompts, sampling, seeds, 3)
    rollouts = call("generate", prompts, sampling, seeds)
    assert rollouts.completions() == expected.completions()


@needs_vllm
def test_engine_reads_back_weights_that_vllm_stacks(tmp_path, prompts):
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
    worker = LocalWorker(partial(VllmEngine, tmp_path, **TOKENS), name="vllm")
    try:
        worker.ready.result(timeout=300)
        worker.submit("load", WeightSnapshot(1, model.state_dict())).result(timeout=60)
        assert worker.submit("checksum").result(timeout=60) == checksum(model.state_dict())
        seeds = sample_seeds(0, 0, prompts, 2)
        rollouts = worker.submit("generate", prompts, Sampling(0.7, 8, 2), seeds).result(60)
    finally:
        worker.close()
    assert gap(model, rollouts, 0.7) < 1e-4
