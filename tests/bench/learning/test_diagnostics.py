import copy
import math
from dataclasses import replace

import pytest
import torch

from bench.algorithms.base import Limits
from bench.engines.hf import HfEngine
from bench.learning import diagnostics
from bench.learning.learner import Learner
from bench.learning.logprobs import completion_logprobs, completion_logprobs_and_entropies
from bench.learning.scoring import Scorer
from bench.learning.sequences import Sequences
from bench.randomness import sample_seeds
from bench.records.schemas import DIAGNOSTICS
from bench.staleness import ON_POLICY
from bench.types import Sampling

from ...conftest import EOS, PAD
from .. import runs

MASK = torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
# log new / behaviour: .3, -.2, 1.4 | -1, .3, and sums 1.5 | -.7.
NEW = torch.tensor([[-0.7, -0.7, -1.2], [-1.2, -0.9, 0.0]]).double()
BEHAVIOUR = torch.tensor([[-1.0, -0.5, -2.6], [-0.2, -1.2, 0.0]]).double()


def numbers(quantities):
    return {name: value.item() for name, value in quantities.items()}


@pytest.mark.parametrize("padding", [0.0, 7.0, math.inf, math.nan])
def test_distance_of_two_policies_by_hand(padding):
    new, entropies = NEW.clone(), torch.ones(2, 3).double()
    new[1, 2] = entropies[1, 2] = padding
    found = numbers(diagnostics.of_policies(new, BEHAVIOUR, entropies, MASK))
    assert found == pytest.approx(
        {
            # w = e^1.5, e^-.7: (4.481689 + .496585)^2 / (4.481689^2 + .496585^2) / 2
            "ess_fraction": 0.609459,
            "log_ratio_square_mean": (0.09 + 0.04 + 1.96 + 1.0 + 0.09) / 5,
            "log_ratio_max_nats": 1.4,
            "kl_k1_nats": -0.8 / 5,
            # (1.349859 + .818731 + 4.055200 + .367879 + 1.349859 - 5 - .8) / 5
            "kl_k3_nats": 0.428306,
            "entropy_nats": 1.0,
            "length_mean_tokens": 2.5,
            "length_max_tokens": 3.0,
        },
        abs=1e-6,
    )


def test_effective_sample_size_is_of_weights_beyond_the_largest_float():
    log_ratio = torch.tensor([[2000.0, 0.0], [1000.0, 1000.0], [-3000.0, 0.0], [0.0, 0.0]])
    assert diagnostics.ess_fraction(log_ratio).item() == pytest.approx(2 / 4)


def test_a_sign_that_no_token_has_gives_no_share():
    no = torch.zeros(2).bool()
    limits = Limits(torch.tensor([1.0, 0.0]), is_clipped=no, is_masked=~no)
    found = diagnostics.as_columns(diagnostics.of_loss(torch.ones(2, 3), MASK, limits))
    assert found == {
        "raised_fraction": 0.0, "clip_fraction_positive": 0.0, "mask_fraction_positive": 1.0,
        "clip_fraction_negative": None, "mask_fraction_negative": None,
    }  # fmt: skip


def test_cosine_of_consecutive_gradients_by_hand():
    parameters = [torch.zeros(1, requires_grad=True), torch.zeros(2, requires_grad=True)]
    cosine = diagnostics.GradientCosine()
    found = []
    for first, second in ((3.0, (4.0, 0.0)), (4.0, (3.0, 0.0)), (-8.0, (-6.0, 0.0))):
        parameters[0].grad, parameters[1].grad = torch.tensor([first]), torch.tensor(second)
        found.append(cosine(parameters).item())
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([24 / 25, -1.0])


def test_entropies_are_of_the_whole_vocabulary(policy, prompts):
    engine = HfEngine(copy.deepcopy(policy), pad_token_id=PAD, eos_token_id=EOS)
    rollouts = engine.generate(prompts, Sampling(0.7, 8, 2), sample_seeds(0, 0, prompts, 2))
    sequences = Sequences.of(rollouts)
    logprobs, entropies = completion_logprobs_and_entropies(policy, sequences, 0.7)
    assert torch.equal(logprobs, completion_logprobs(policy, sequences, 0.7))
    assert not entropies.requires_grad
    # Of the first token of a prompt that is not padded, by torch's own distribution.
    row = rollouts.prompt_mask.all(1).nonzero()[0, 0]
    logits = policy(rollouts.prompt_tokens[row][None].clone()).logits[0, -1] / 0.7
    expected = torch.distributions.Categorical(logits=logits).entropy()
    assert entropies[row, 0].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.fixture
def steps(policy, reward_model, prompts):
    """Return a factory of a run's first two steps on the same batch."""
    engine = HfEngine(copy.deepcopy(policy), pad_token_id=PAD, eos_token_id=EOS)
    rollouts = engine.generate(prompts, Sampling(0.7, 8, 2), sample_seeds(0, 0, prompts, 2))

    def make(algorithm, **settings):
        config = replace(runs.config(ON_POLICY, algorithm=algorithm), **settings)
        scorer = Scorer(
            copy.deepcopy(reward_model),
            copy.deepcopy(policy),
            temperature=0.7,
            missing_eos_penalty=-1.0,
        )
        values = copy.deepcopy(reward_model) if config.algorithm.needs_values else None
        learner = Learner(config, config.algorithm, copy.deepcopy(policy), scorer, values)
        return [dict(learner.step(rollouts).diagnostics) for _ in range(2)]

    return make


@pytest.mark.parametrize("algorithm", ["ppo", "rloo", "online_dpo", "best_of_2", "copg"])
def test_every_step_has_the_columns(steps, algorithm):
    first, second = steps(algorithm)
    limited = {name for name in DIAGNOSTICS if name.startswith(("clip_", "mask_"))}
    expected = set(DIAGNOSTICS) - (set() if algorithm in ("ppo", "rloo") else limited)
    assert set(first) == set(second) == expected
    assert {name for name, value in first.items() if value is None} == {"gradient_cosine"}
    assert all(math.isfinite(value) for value in second.values())
    assert -1 <= second["gradient_cosine"] <= 1
    assert second["ess_fraction"] < 1 - 1e-6 < first["ess_fraction"]
    assert algorithm != "best_of_2" or second["raised_fraction"] == 1.0


def test_micro_batches_have_the_same_diagnostics(steps):
    for whole, parts in zip(steps("ppo"), steps("ppo", microbatch_rows=5), strict=True):
        assert parts.keys() == whole.keys()
        for name, value in parts.items():
            assert value == (whole[name] and pytest.approx(whole[name], rel=1e-3, abs=1e-5)), name
