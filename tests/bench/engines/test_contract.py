"""What every engine owes the learner. Each runs as in an overlapped run: in a worker."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch

from bench.engines import ENGINES, engine_class
from bench.errors import UserError
from bench.randomness import sample_seeds
from bench.sources.base import Checksummed
from bench.sources.handoff import checksum
from bench.types import Prompt, Sampling, WeightSnapshot

from ...conftest import EOS, PAD, VOCABULARY
from .conftest import TOKENS, gap, policy, start

MAX_TOKENS = 12


def rows(prompts, k):
    return [prompt for prompt in prompts for _ in range(k)]


class Served:
    """An engine in a worker; every ``load`` is a new policy version."""

    def __init__(self, worker):
        self._worker = worker
        self._versions = itertools.count(1)

    def load(self, model):
        version = next(self._versions)
        self._call("load", WeightSnapshot(version, model.state_dict()))
        return version

    def checksum(self):
        return self._call("checksum")

    def generate(self, prompts, temperature=1.0, k=1, batch=0):
        seeds = sample_seeds(0, batch, prompts, k)
        sampling = Sampling(temperature, MAX_TOKENS, k)
        return self._call("generate", tuple(prompts), sampling, seeds)

    def _call(self, method, *args):
        return self._worker.submit(method, *args).result(timeout=120)


@pytest.fixture(scope="module", params=ENGINES)
def kind(request):
    """Return an engine's class."""
    found = engine_class(request.param)
    try:
        found.require_installed()
    except UserError as refusal:
        pytest.skip(str(refusal))
    return found


@pytest.fixture(scope="module")
def worker(kind, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    policy(seed=0).save_pretrained(directory)
    build = partial(kind.from_checkpoint, directory, dtype="float32", device="cpu", **TOKENS)
    worker = start(build)
    yield Served(worker)
    worker.close()


@pytest.fixture
def model():
    return policy(seed=0)


@pytest.fixture
def engine(worker, model):
    worker.load(model)
    return worker


def test_prompts_come_back_left_padded_and_k_times_each(engine, prompts):
    rollouts = engine.generate(prompts, k=2)
    # lengths 3 to 8, so that P = 8
    expected = [[PAD] * (8 - len(p.token_ids)) + list(p.token_ids) for p in rows(prompts, 2)]
    assert rollouts.prompt_tokens.tolist() == expected
    assert rollouts.prompt_mask.sum(1).tolist() == [3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8]
    assert rollouts.prompt_mask[:, -1].all()
    assert rollouts.prompts == prompts
    assert rollouts.completions_per_prompt == 2
    assert rollouts.prompt_tokens.dtype == rollouts.completion_tokens.dtype == torch.int64
    assert rollouts.prompt_mask.dtype == rollouts.completion_mask.dtype == torch.bool
    assert rollouts.logprobs.dtype == torch.float32
    assert rollouts.generate_s > 0


def test_completions_end_with_eos_or_at_the_limit(engine, prompts):
    rollouts = engine.generate(prompts, k=8)
    lengths = []
    for row, completion in enumerate(rollouts.completions()):
        finished = bool(rollouts.finished[row])
        lengths.append(len(completion))
        assert EOS not in completion[:-1]
        assert finished == (completion[-1] == EOS)
        assert finished or len(completion) == MAX_TOKENS
        assert all(0 <= token < VOCABULARY for token in completion)
        assert (rollouts.completion_tokens[row, len(completion) :] == PAD).all()
        assert (rollouts.logprobs[row, len(completion) :] == 0).all()
        assert not rollouts.completion_mask[row, len(completion) :].any()
        assert (rollouts.logprobs[row, : len(completion)] < 0).all()
    assert rollouts.completion_tokens.shape == (48, max(lengths))
    assert 0 < rollouts.finished.sum() < 48  # both kinds were tested


def test_batch_is_as_wide_as_its_longest_completion(engine, model, prompts):
    with torch.no_grad():  # the logit of EOS is the width, 64; all others are 0
        model.gpt_neox.final_layer_norm.weight.zero_()
        model.gpt_neox.final_layer_norm.bias.fill_(1.0)
        model.lm_head.weight.zero_()
        model.lm_head.weight[EOS] = 1.0
    engine.load(model)
    rollouts = engine.generate(prompts)
    assert rollouts.completion_tokens.tolist() == [[EOS]] * 6
    assert rollouts.finished.all()


def test_equal_seeds_give_equal_completions(engine, prompts):
    one, two = (engine.generate(prompts, k=2, batch=3) for _ in range(2))
    assert one.completions() == two.completions()
    assert torch.allclose(one.logprobs, two.logprobs, atol=1e-5)


def test_different_seeds_give_different_completions(engine, prompts):
    one, two = (engine.generate(prompts, k=2, batch=batch).completions() for batch in (3, 4))
    # Fewer than 2 of 12 rows agree by chance, and two rows of one prompt differ, too.
    assert sum(a == b for a, b in zip(one, two, strict=True)) < 2
    assert sum(one[2 * i] == one[2 * i + 1] for i in range(6)) < 2


def test_completion_is_independent_of_its_place_in_the_batch(engine, prompts):
    one = engine.generate(prompts, k=2).completions()
    other = engine.generate(prompts[::-1], k=2).completions()
    assert [one[2 * i : 2 * i + 2] for i in range(6)] == [
        other[2 * i : 2 * i + 2] for i in range(5, -1, -1)
    ]


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_logprobs_agree_with_the_learners(engine, model, prompts, temperature):
    rollouts = engine.generate(prompts, temperature, k=4)
    assert gap(model, rollouts, temperature) < 1e-4
    other = 1.7 - temperature  # that the agreement is about the temperature, too
    assert gap(model, rollouts, other) > 0.1


def test_sampling_follows_the_models_distribution(engine, model):
    many = [Prompt(i, (5, 6, 7)) for i in range(1000)]
    first = engine.generate(many).completion_tokens[:, 0]
    with torch.no_grad():
        expected = 1000 * torch.softmax(model(torch.tensor([[5, 6, 7]])).logits[0, -1], -1)
    counts = torch.bincount(first, minlength=VOCABULARY)
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert chi2 < 37.7  # 15 degrees of freedom: exceeded with probability 1e-3


@torch.no_grad()
def test_near_zero_temperature_is_greedy(engine, model, prompts):
    rollouts = engine.generate(prompts, temperature=0.01)
    clear = 0
    for prompt, completion in zip(prompts, rollouts.completions(), strict=True):
        tokens = list(prompt.token_ids)
        for token in completion:
            logits, best = model(torch.tensor([tokens])).logits[0, -1].topk(2)
            if logits[0] - logits[1] > 0.1:  # any other token has probability e^-10 at most
                assert token == int(best[0])
                clear += 1
            tokens.append(token)
    assert clear > 30


def test_load_takes_effect_and_tags_rollouts(engine, model, prompts):
    other = policy(seed=1)
    version = engine.load(other)
    rollouts = engine.generate(prompts, k=2)
    assert rollouts.policy_version == version
    assert gap(other, rollouts) < 1e-4
    assert gap(model, rollouts) > 0.5
    back = engine.load(model)
    rollouts = engine.generate(prompts, k=2)
    assert rollouts.policy_version == back == version + 1
    assert gap(model, rollouts) < 1e-4


def test_load_forgets_the_prefixes_that_it_cached(engine, model):
    tokens = np.random.default_rng(0).integers(2, VOCABULARY, 280).tolist()
    prompts = [Prompt(0, tuple(tokens))]
    for _ in range(2):  # computed, then from the cache
        assert gap(model, engine.generate(prompts, k=2)) < 1e-4
    other = policy(seed=1)
    engine.load(other)
    assert gap(other, engine.generate(prompts, k=2)) < 1e-4


def test_checksum_is_the_learners(kind, engine, model):
    if not issubclass(kind, Checksummed):
        pytest.skip("reports no checksum: log-probs are compared")
    assert engine.checksum() == checksum(model.state_dict())
    with torch.no_grad():
        model.gpt_neox.layers[1].mlp.dense_h_to_4h.weight[0, 0] += 1e-3
    assert engine.checksum() != checksum(model.state_dict())
    engine.load(model)
    assert engine.checksum() == checksum(model.state_dict())
