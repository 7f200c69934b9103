import numpy as np
import pytest
import torch

from bench.engines.hf import HfEngine, _draw
from bench.learning.logprobs import completion_logprobs
from bench.learning.sequences import Sequences
from bench.randomness import sample_seeds, uniforms
from bench.types import Prompt, Sampling, WeightSnapshot

from ...conftest import EOS, PAD


@pytest.fixture
def engine(policy):
    return HfEngine(policy, pad_token_id=PAD, eos_token_id=EOS)


@torch.no_grad()
def naive_completion(model, prompt, seed, sampling):
    """Sample one row without cache, batch or padding: the slowest thing that is surely right."""
    draws = uniforms([seed], sampling.max_completion_tokens)[0]
    tokens, logprobs = list(prompt.token_ids), []
    for u in draws:
        logits = model(input_ids=torch.tensor([tokens])).logits[0, -1]
        distribution = torch.log_softmax(logits / sampling.temperature, -1)
        cumulative = np.cumsum(distribution.exp().double().detach().numpy())
        token = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
        tokens.append(token)
        logprobs.append(float(distribution[token]))
        if token == EOS:
            break
    return tokens[len(prompt.token_ids) :], logprobs


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_generate_equals_a_naive_loop_over_rows(engine, policy, prompts, temperature):
    sampling = Sampling(temperature, 12, 2)
    seeds = sample_seeds(0, 0, prompts, 2)
    rollouts = engine.generate(prompts, sampling, seeds)
    finished = []
    for row, (prompt, seed) in enumerate(
        zip([p for p in prompts for _ in range(2)], seeds, strict=True)
    ):
        tokens, logprobs = naive_completion(policy, prompt, seed, sampling)
        assert rollouts.completions()[row] == tokens
        assert rollouts.logprobs[row, : len(tokens)].tolist() == pytest.approx(logprobs, abs=1e-5)
        assert rollouts.logprobs[row, len(tokens) :].abs().sum() == 0
        assert (rollouts.completion_tokens[row, len(tokens) :] == PAD).all()
        finished.append(tokens[-1] == EOS)
    assert rollouts.finished.tolist() == finished
    assert 0 < sum(finished) < len(finished)  # both kinds were tested


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_logprobs_agree_with_the_learners(engine, policy, prompts, temperature):
    rollouts = engine.generate(
        prompts, Sampling(temperature, 12, 2), sample_seeds(1, 0, prompts, 2)
    )
    learner = completion_logprobs(policy, Sequences.of(rollouts), temperature)
    assert torch.allclose(learner, rollouts.logprobs, atol=1e-5)


def test_generate_near_zero_temperature_is_greedy(engine, policy, prompts):
    rollouts = engine.generate(prompts, Sampling(0.001, 6), sample_seeds(0, 0, prompts, 1))
    for prompt, completion in zip(prompts, rollouts.completions(), strict=True):
        tokens = list(prompt.token_ids)
        for token in completion:
            assert token == int(policy(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
            tokens.append(token)


def test_generate_samples_the_models_distribution(engine, policy):
    prompt = Prompt(0, (5, 6, 7))
    rows = 4000
    many = [Prompt(i, prompt.token_ids) for i in range(rows)]
    rollouts = engine.generate(many, Sampling(1.0, 1), sample_seeds(0, 0, many, 1))
    counts = np.bincount(rollouts.completion_tokens[:, 0].numpy(), minlength=16)
    expected = rows * torch.softmax(policy(torch.tensor([prompt.token_ids])).logits[0, -1], -1)
    chi2 = float(((counts - expected.detach().numpy()) ** 2 / expected.detach().numpy()).sum())
    assert chi2 < 37.7  # 15 degrees of freedom: exceeded with probability 1e-3


def test_generate_is_independent_of_the_order_of_prompts(engine, prompts):
    sampling = Sampling(1.0, 8, 2)
    one = engine.generate(prompts, sampling, sample_seeds(0, 3, prompts, 2)).completions()
    reverse = prompts[::-1]
    other = engine.generate(reverse, sampling, sample_seeds(0, 3, reverse, 2)).completions()
    assert [one[2 * i : 2 * i + 2] for i in range(6)] == [
        other[2 * i : 2 * i + 2] for i in range(5, -1, -1)
    ]


def many(prompts):
    """Return four times the prompts, as other ones."""
    return [Prompt(6 * i + p.prompt_id, p.token_ids) for i in range(4) for p in prompts]


# Of 16 rows a matrix product rounds each as it does among 48; of fewer it need not.
@pytest.mark.parametrize(("rows", "atol"), [(16, 0), (24, 0), (7, 1e-5), (2, 1e-5), (1, 1e-5)])
def test_generation_in_parts_is_that_of_the_whole(engine, prompts, rows, atol):
    prompts = many(prompts)
    seeds = sample_seeds(0, 0, prompts, 2)
    whole = engine.generate(prompts, Sampling(1.0, 12, 2), seeds)
    read = []
    engine.model.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: read.append(len(inputs[0]))
    )
    parts = engine.generate(prompts, Sampling(1.0, 12, 2, rows), seeds)
    assert max(read) == max(2, rows // 2 * 2)  # whole prompts, at least one
    for name in ("prompt_tokens", "prompt_mask", "completion_tokens", "completion_mask"):
        assert torch.equal(getattr(parts, name), getattr(whole, name)), name
    assert torch.equal(parts.finished, whole.finished)
    assert torch.allclose(parts.logprobs, whole.logprobs, rtol=0, atol=atol)
    assert parts.prompts == whole.prompts


def test_draw_inverts_the_cumulative_distribution():
    # probabilities .2, .5, .3: thresholds at .2 and .7
    logprobs = torch.log(torch.tensor([[0.2, 0.5, 0.3]])).repeat(5, 1)
    uniform = torch.tensor([[0.0], [0.19], [0.21], [0.69], [0.999999]])
    assert _draw(logprobs, uniform)[:, 0].tolist() == [0, 0, 1, 1, 2]


def test_draw_never_takes_a_token_of_probability_zero():
    logprobs = torch.tensor([[-torch.inf, 0.0, -torch.inf]]).repeat(2, 1)
    assert _draw(logprobs, torch.tensor([[0.0], [0.9999999]]))[:, 0].tolist() == [1, 1]


def test_load_copies_a_snapshot_and_takes_its_version(engine, policy):
    state = {name: torch.zeros_like(value) for name, value in policy.state_dict().items()}
    engine.load(WeightSnapshot(4, state))
    assert engine.policy_version == 4
    assert all(float(p.detach().abs().sum()) == 0 for p in policy.parameters())
    next(iter(state.values())).fill_(1.0)
    assert all(float(p.detach().abs().sum()) == 0 for p in policy.parameters())
