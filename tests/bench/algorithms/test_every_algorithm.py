"""What holds for every algorithm, those of a new file included."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.algorithms import ALGORITHMS, build
from bench.algorithms.base import Inputs, Outputs
from bench.algorithms.corrections import (
    CORRECTIONS,
    GeometricMask,
    ImportanceWeight,
    MaskedImportanceWeight,
    SecondMomentMask,
)
from bench.algorithms.ratio import RatioAlgorithm
from bench.types import ScoredRollouts

LEVELS = ("token", "sequence")
# Caps and bounds that cut some of the weights of ``random_batch``.
WEIGHTS = [
    *(ImportanceWeight(level=level, cap=cap) for level in LEVELS for cap in (None, 1.1)),
    *(MaskedImportanceWeight(level=level, low=0.9, high=1.1) for level in LEVELS),
    *(GeometricMask(level=level, low=0.95, high=1.05) for level in LEVELS),
    SecondMomentMask(budget=0.005),
]


def cases():
    """Return every algorithm alone and, where its loss has a ratio, with every correction."""
    found = {name: build(name) for name in ALGORITHMS}
    for name, cls in ALGORITHMS.items():
        if issubclass(cls, RatioAlgorithm):
            found[f"{name}-proximal"] = build(name, {"old_logprobs": "proximal"})
            found[f"{name}-interpolated"] = build(name, {"old_logprobs": "interpolated"})
            found[f"{name}-mask"] = build(name, {"negative_mask_nats": 0.01})
            for one in WEIGHTS:
                if (one.level, cls.level) != ("token", "sequence"):
                    params = {"old_logprobs": "decoupled", "correction": one}
                    found[f"{name}-{one}"] = build(name, params)
    return found


CASES = cases()
every_algorithm = pytest.mark.parametrize("algorithm", CASES.values(), ids=CASES)


def test_every_correction_is_among_the_cases():
    assert {type(one) for one in WEIGHTS} == set(CORRECTIONS.values())


def evaluate(algorithm, inputs, new, new_values):
    """Return the loss of R rows of new log-probs and values, as the learner computes it."""
    batch = algorithm.prepare(inputs)
    values = new_values[batch.rows] if algorithm.needs_values else None
    return algorithm.loss(Outputs(new[batch.rows], values), batch)


@pytest.fixture(scope="session")
def batch_of(random_batch):
    """Return a factory of random batches with what the algorithm asks for."""

    def make(algorithm, seed, **settings):
        k = algorithm.completions_per_prompt
        proximal = algorithm.old_logprobs in ("proximal", "decoupled")
        return random_batch(seed, k=k, proximal=proximal, **settings)

    return make


def with_tensors(inputs, change):
    """Return inputs with every tensor that an algorithm reads changed alike."""
    scored, rollouts = inputs.scored, inputs.scored.rollouts
    proximal = inputs.proximal_logprobs
    return Inputs(
        scored=ScoredRollouts(
            replace(
                rollouts,
                completion_mask=change(rollouts.completion_mask),
                logprobs=change(rollouts.logprobs),
            ),
            rewards=change(scored.rewards),
            ref_logprobs=change(scored.ref_logprobs),
        ),
        proximal_logprobs=None if proximal is None else change(proximal),
        values=change(inputs.values),
    )


@every_algorithm
def test_padding_has_exactly_zero_gradient_whatever_it_holds(batch_of, algorithm):
    clean = evaluate(algorithm, *batch_of(algorithm, seed=0))
    for padding in (7.0, math.inf, math.nan):
        inputs, new, new_values = batch_of(algorithm, seed=0, padding=padding)
        new.requires_grad_()
        new_values.requires_grad_()
        out = evaluate(algorithm, inputs, new, new_values)
        out.loss.backward()
        assert out.loss.item() == clean.loss.item()
        assert out.metrics == clean.metrics
        is_padding = ~inputs.scored.rollouts.completion_mask
        assert is_padding.any()
        assert (new.grad[is_padding] == 0).all()
        assert new.grad[~is_padding].abs().sum() > 0
        if algorithm.needs_values:
            assert (new_values.grad[is_padding] == 0).all()
            assert new_values.grad[~is_padding].abs().sum() > 0


@every_algorithm
def test_loss_and_targets_are_finite_numbers_without_gradient(batch_of, algorithm):
    inputs, new, new_values = batch_of(algorithm, seed=1)
    new.requires_grad_()
    batch = algorithm.prepare(inputs)
    assert len(batch.rows) == len(batch.mask) == len(batch.old_logprobs)
    assert torch.equal(batch.mask, inputs.scored.rollouts.completion_mask[batch.rows])
    assert torch.equal(batch.old_logprobs, inputs.old_logprobs[batch.rows])
    assert not any(target.requires_grad for target in batch.targets.values())
    out = evaluate(algorithm, inputs, new, new_values)
    assert out.loss.shape == ()
    assert out.loss.requires_grad
    assert all(type(value) is float and math.isfinite(value) for value in out.metrics.values())


@every_algorithm
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_order_of_prompts_and_completions_does_not_matter(batch_of, algorithm, data):
    k, prompts = algorithm.completions_per_prompt, data.draw(st.integers(1, 4))
    seed = data.draw(st.integers(0, 10_000))
    inputs, new, new_values = batch_of(algorithm, seed, prompts=prompts)
    order = [
        prompt * k + completion
        for prompt in data.draw(st.permutations(range(prompts)))
        for completion in data.draw(st.permutations(range(k)))
    ]
    expected = evaluate(algorithm, inputs, new, new_values)
    out = evaluate(
        algorithm, with_tensors(inputs, lambda x: x[order]), new[order], new_values[order]
    )
    assert out.loss.item() == pytest.approx(expected.loss.item(), rel=1e-9, abs=1e-12)
    assert out.metrics == pytest.approx(expected.metrics, rel=1e-9, abs=1e-12)


# Without those whose loss holds a weight constant that finite differences would move; see their own
# tests.
@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param(algorithm, id=case)
        for case, algorithm in CASES.items()
        if algorithm.name not in ("cispo", "dppo", "topr", "vespo")
        and algorithm.old_logprobs != "interpolated"
    ],
)
def test_gradient_equals_finite_differences(batch_of, algorithm):
    inputs, new, new_values = batch_of(algorithm, seed=2)

    def loss(new, new_values):
        return evaluate(algorithm, inputs, new, new_values).loss

    arguments = (new.requires_grad_(), new_values.requires_grad_())
    assert torch.autograd.gradcheck(loss, arguments)


@every_algorithm
def test_inputs_are_not_changed(batch_of, algorithm):
    inputs, new, new_values = batch_of(algorithm, seed=3)
    evaluate(algorithm, inputs, new, new_values)
    again, new_again, _ = batch_of(algorithm, seed=3)
    for ours, theirs in (
        (inputs.behaviour_logprobs, again.behaviour_logprobs),
        (inputs.old_logprobs, again.old_logprobs),
        (inputs.values, again.values),
        (inputs.scored.rewards, again.scored.rewards),
        (inputs.scored.ref_logprobs, again.scored.ref_logprobs),
        (new, new_again),
    ):
        assert torch.equal(ours, theirs)


@every_algorithm
def test_float32_loss_is_close_to_float64(batch_of, algorithm):
    inputs, new, new_values = batch_of(algorithm, seed=4)
    single = with_tensors(inputs, lambda x: x.float() if x.is_floating_point() else x)
    out = evaluate(algorithm, single, new.float(), new_values.float())
    expected = evaluate(algorithm, inputs, new, new_values)
    assert out.loss.dtype == torch.float32
    assert out.loss.item() == pytest.approx(expected.loss.item(), rel=1e-4, abs=1e-5)
