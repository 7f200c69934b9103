"""What holds for every algorithm, those of a new file included."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.algorithms import available, build
from bench.algorithms.base import Inputs
from bench.types import ScoredRollouts

every_algorithm = pytest.mark.parametrize("name", available())

# Their loss holds a weight constant that finite differences would move; see their own tests.
STOPPED_GRADIENT = {"cispo", "topr"}


def evaluate(algorithm, inputs, new, new_values):
    """Return the loss of R rows of new log-probs and values, as the learner computes it."""
    batch = algorithm.prepare(inputs)
    values = new_values[batch.rows] if algorithm.needs_values else None
    return algorithm.loss(new[batch.rows], values, batch)


def reorder(inputs, order):
    """Return inputs with their rows in another order."""
    scored, rollouts = inputs.scored, inputs.scored.rollouts
    return Inputs(
        scored=ScoredRollouts(
            replace(rollouts, completion_mask=rollouts.completion_mask[order]),
            rewards=scored.rewards[order],
            ref_logprobs=scored.ref_logprobs[order],
        ),
        old_logprobs=inputs.old_logprobs[order],
        values=inputs.values[order],
    )


@every_algorithm
def test_padding_has_exactly_zero_gradient_whatever_it_holds(random_batch, name):
    algorithm = build(name)
    k = algorithm.completions_per_prompt
    clean = evaluate(algorithm, *random_batch(seed=0, k=k))
    for padding in (7.0, math.inf, math.nan):
        inputs, new, new_values = random_batch(seed=0, k=k, padding=padding)
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
def test_loss_and_targets_are_finite_numbers_without_gradient(random_batch, name):
    algorithm = build(name)
    inputs, new, new_values = random_batch(seed=1, k=algorithm.completions_per_prompt)
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
def test_order_of_prompts_and_completions_does_not_matter(random_batch, name, data):
    algorithm = build(name)
    k, prompts = algorithm.completions_per_prompt, data.draw(st.integers(1, 4))
    inputs, new, new_values = random_batch(data.draw(st.integers(0, 10_000)), prompts=prompts, k=k)
    order = [
        prompt * k + completion
        for prompt in data.draw(st.permutations(range(prompts)))
        for completion in data.draw(st.permutations(range(k)))
    ]
    expected = evaluate(algorithm, inputs, new, new_values)
    out = evaluate(algorithm, reorder(inputs, order), new[order], new_values[order])
    assert out.loss.item() == pytest.approx(expected.loss.item(), rel=1e-9, abs=1e-12)
    assert out.metrics == pytest.approx(expected.metrics, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", sorted(set(available()) - STOPPED_GRADIENT))
def test_gradient_equals_finite_differences(random_batch, name):
    algorithm = build(name)
    inputs, new, new_values = random_batch(seed=2, k=algorithm.completions_per_prompt)

    def loss(new, new_values):
        return evaluate(algorithm, inputs, new, new_values).loss

    arguments = (new.requires_grad_(), new_values.requires_grad_())
    assert torch.autograd.gradcheck(loss, arguments)


@every_algorithm
def test_inputs_are_not_changed(random_batch, name):
    algorithm = build(name)
    k = algorithm.completions_per_prompt
    inputs, new, new_values = random_batch(seed=3, k=k)
    evaluate(algorithm, inputs, new, new_values)
    again, new_again, _ = random_batch(seed=3, k=k)
    for ours, theirs in (
        (inputs.old_logprobs, again.old_logprobs),
        (inputs.values, again.values),
        (inputs.scored.rewards, again.scored.rewards),
        (inputs.scored.ref_logprobs, again.scored.ref_logprobs),
        (new, new_again),
    ):
        assert torch.equal(ours, theirs)


@every_algorithm
def test_float32_loss_is_close_to_float64(random_batch, name):
    algorithm = build(name)
    inputs, new, new_values = random_batch(seed=4, k=algorithm.completions_per_prompt)
    single = Inputs(
        scored=ScoredRollouts(
            inputs.scored.rollouts,
            rewards=inputs.scored.rewards.float(),
            ref_logprobs=inputs.scored.ref_logprobs.float(),
        ),
        old_logprobs=inputs.old_logprobs.float(),
        values=inputs.values.float(),
    )
    out = evaluate(algorithm, single, new.float(), new_values.float())
    expected = evaluate(algorithm, inputs, new, new_values)
    assert out.loss.dtype == torch.float32
    assert out.loss.item() == pytest.approx(expected.loss.item(), rel=1e-4, abs=1e-5)
