import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.algorithms import ALGORITHMS, build
from bench.algorithms.base import Outputs
from bench.algorithms.corrections import (
    GeometricMask,
    ImportanceWeight,
    MaskedImportanceWeight,
    SecondMomentMask,
)
from bench.algorithms.functional import within_second_moment
from bench.algorithms.ratio import RatioAlgorithm

RATIO_ALGORITHMS = [name for name, cls in ALGORITHMS.items() if issubclass(cls, RatioAlgorithm)]


@pytest.mark.parametrize(
    ("level", "cap", "weights", "is_cut"),
    [
        # exp(proximal - behaviour) of the fixture, token by token.
        ("token", None, [[1.105171, 0.904837, 2.225541], [0.496585, 1.105171, 1.0]], []),
        ("token", 2.0, [[1.105171, 0.904837, 2.0], [0.496585, 1.105171, 1.0]], [(0, 2)]),
        # exp(0.1 - 0.1 + 0.8) and exp(-0.7 + 0.1).
        ("sequence", None, [2.225541, 0.548812], []),
        ("sequence", 2.0, [2.0, 0.548812], [(0,)]),
    ],
)
def test_importance_weights_by_hand(fixture_batch, level, cap, weights, is_cut):
    inputs, _ = fixture_batch(padding=0.0)
    log_ratio = inputs.proximal_logprobs - inputs.behaviour_logprobs
    found, cut = ImportanceWeight(level=level, cap=cap).weights(log_ratio, inputs.mask)
    torch.testing.assert_close(found, torch.tensor(weights).double(), atol=5e-7, rtol=0)
    assert [tuple(where) for where in cut.nonzero().tolist()] == is_cut


def surrogate(fixture_batch, padding, params):
    """Return PPO's policy loss at A = +1 and -1, its gradient and its metrics."""
    inputs, th = fixture_batch(padding)
    ppo = build("ppo", {"completions_per_prompt": 2, "value_coef": 0.0, **params})
    batch = ppo.prepare(inputs)
    sign = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).expand_as(th)
    batch = replace(batch, targets={**batch.targets, "advantages": sign})
    out = ppo.loss(Outputs(th.requires_grad_(), torch.zeros_like(th)), batch)
    (gradient,) = torch.autograd.grad(out.loss, th)
    return out, gradient


def decoupled(kind=ImportanceWeight, **correction):
    return {"old_logprobs": "decoupled", "correction": kind(**correction)}


masked = partial(decoupled, MaskedImportanceWeight)
geometric = partial(decoupled, GeometricMask)
second_moment = partial(decoupled, SecondMomentMask)


@pytest.mark.parametrize("padding", [-9.0, math.inf, math.nan])
@pytest.mark.parametrize(
    ("params", "loss", "g2", "g5"),
    [
        ({"old_logprobs": "proximal"}, -0.256687, -0.180967, 0.244281),
        ({"old_logprobs": "decoupled"}, -0.613692, -0.163746, 0.269972),
        (decoupled(level="token", cap=2.0), -0.559562, -0.163746, 0.269972),
        (decoupled(level="sequence", cap=2.0), -1.100061, -0.361935, 0.134064),
        # Without the third of the first and the first of the second; with the former.
        (masked(level="token", low=0.5, high=2.0), -0.159015, -0.163746, 0.269972),
        (masked(level="token", low=0.5, high=5.0), -0.693145, -0.163746, 0.269972),
        # Without the first completion.
        (masked(level="sequence", low=0.5, high=2.0), 0.221874, 0.0, 0.134064),
        # Without the second, whose geometric mean is .740818.
        (geometric(level="sequence", low=0.8, high=1.4), -0.660967, -0.180967, 0.0),
        (geometric(level="token", low=0.8, high=1.4, cap=2.0), -0.908987, -0.163746, 0.0),
        # Squares .64 and .49 of the tokens that IcePop leaves out go; the others are .01.
        (second_moment(budget=0.04), -0.159015, -0.163746, 0.269972),
    ],
)
def test_corrected_token_surrogate_by_hand(fixture_batch, padding, params, loss, g2, g5):
    # Terms -1.2, -.904837, -1.2 | .8, 1.221403 at new / proximal, times the weights above, over 5
    # tokens. The clip stops the gradient of all tokens but the second and the fifth.
    out, gradient = surrogate(fixture_batch, padding, params)
    assert out.loss.item() == pytest.approx(loss, abs=5e-7)
    assert gradient.flatten().tolist() == pytest.approx([0, g2, 0, 0, g5, 0], abs=5e-7)


@pytest.mark.parametrize(
    ("correction", "mean", "maximum", "cut"),
    [
        ({"level": "token"}, 1.167461, 2.225541, 0.0),
        ({"level": "token", "cap": 2.0}, 1.122353, 2.0, 0.2),
        ({"level": "sequence", "cap": 2.0}, 1.274406, 2.0, 0.5),
    ],
)
def test_metrics_of_the_weights_by_hand(fixture_batch, correction, mean, maximum, cut):
    # (1.105171 + .904837 + 2.225541 + .496585 + 1.105171) / 5; with 2 for the third; and
    # (2 + .548812) / 2.
    metrics = surrogate(fixture_batch, math.nan, decoupled(**correction))[0].metrics
    assert metrics["weight_mean"] == pytest.approx(mean, abs=1e-6)
    assert metrics["weight_max"] == pytest.approx(maximum, abs=1e-6)
    assert metrics["weight_cut_fraction"] == pytest.approx(cut)


def test_largest_weight_is_not_that_of_padding(make_inputs):
    column = [[-1.0, 0.0], [-1.0, 0.0]]
    inputs = make_inputs(
        k=2, rewards=[1, 0], mask=[[1, 0]] * 2, old=column, ref=column, proximal=[[-2.0, 0.0]] * 2
    )
    grpo = build("grpo", {"old_logprobs": "decoupled"})
    out = grpo.loss(Outputs(torch.full((2, 2), -1.0).double()), grpo.prepare(inputs))
    assert out.metrics["weight_max"] == out.metrics["weight_mean"] == pytest.approx(1 / math.e)


@pytest.mark.parametrize("name", RATIO_ALGORITHMS)
@pytest.mark.parametrize("old_logprobs", ["behaviour", "proximal"])
def test_without_a_correction_there_are_no_weights(random_batch, name, old_logprobs):
    algorithm = build(name, {"old_logprobs": old_logprobs, "completions_per_prompt": 2})
    inputs, new, values = random_batch(seed=0, proximal=old_logprobs == "proximal")
    batch = algorithm.prepare(inputs)
    metrics = algorithm.loss(Outputs(new, values), batch).metrics
    assert algorithm.ratio(Outputs(new, values), batch).weights is None
    assert not [key for key in metrics if key.startswith("weight")]


@pytest.mark.parametrize("name", RATIO_ALGORITHMS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_proximal_policy_that_is_the_behaviour_policy_has_weights_of_1(random_batch, name, seed):
    inputs, new, values = random_batch(seed, padding=math.nan)
    inputs = replace(inputs, proximal_logprobs=inputs.behaviour_logprobs.clone())
    found = []
    for old_logprobs in ("proximal", "decoupled"):
        algorithm = build(name, {"old_logprobs": old_logprobs, "completions_per_prompt": 2})
        batch = algorithm.prepare(inputs)
        found.append(algorithm.loss(Outputs(new, values), batch).loss.item())
    assert (algorithm.ratio(Outputs(new, values), batch).weights[batch.mask.any(1)] == 1).all()
    assert found[0] == found[1]


@pytest.mark.parametrize("name", RATIO_ALGORITHMS)
def test_weights_have_no_gradient(random_batch, name):
    for old_logprobs in ("decoupled", "interpolated"):
        inputs, new, values = random_batch(seed=0, proximal=old_logprobs == "decoupled")
        algorithm = build(name, {"old_logprobs": old_logprobs, "completions_per_prompt": 2})
        batch = algorithm.prepare(inputs)
        ratio = algorithm.ratio(Outputs(new.requires_grad_(), values), batch)
        assert ratio.log_ratio.requires_grad
        assert not ratio.weights.requires_grad


@pytest.mark.parametrize(
    ("name", "level"),
    [
        (name, level)
        for name in RATIO_ALGORITHMS
        for level in ("token", "sequence")
        if (level, ALGORITHMS[name].level) != ("token", "sequence")  # these are refused
    ],
)
def test_gradient_is_that_of_proximal_times_the_weights(random_batch, name, level):
    algorithm = build(name, {"completions_per_prompt": 2, "kl_coef": 0.0})
    inputs, new, values = random_batch(seed=0, proximal=True)
    new.requires_grad_()
    gradients = []
    for params in ({"old_logprobs": "proximal"}, decoupled(level=level, cap=1.1)):
        one = replace(algorithm, **params)
        loss = one.loss(Outputs(new, values), one.prepare(inputs)).loss
        gradients.append(torch.autograd.grad(loss, new)[0])
    log_ratio = (inputs.proximal_logprobs - inputs.behaviour_logprobs) * inputs.mask
    ratio = log_ratio.exp() if level == "token" else log_ratio.sum(1, keepdim=True).exp()
    proximal, corrected = gradients
    torch.testing.assert_close(corrected, proximal * ratio.clamp(max=1.1), rtol=1e-12, atol=1e-12)


def test_weights_do_not_touch_the_kl_penalty_of_grpo(random_batch):
    # With all scores equal the advantages are 0, and only the KL penalty is left.
    inputs, new, _ = random_batch(seed=0, proximal=True)
    scored = replace(inputs.scored, rewards=torch.zeros_like(inputs.scored.rewards))
    inputs = replace(inputs, scored=scored)
    losses = []
    for old_logprobs in ("proximal", "decoupled"):
        grpo = build("grpo", {"old_logprobs": old_logprobs})
        losses.append(grpo.loss(Outputs(new), grpo.prepare(inputs)).loss.item())
    assert losses[0] == losses[1] > 0


def test_weights_do_not_touch_the_value_loss_of_ppo(random_batch):
    inputs, new, values = random_batch(seed=0, proximal=True)
    found = []
    for old_logprobs in ("proximal", "decoupled"):
        ppo = build("ppo", {"old_logprobs": old_logprobs, "completions_per_prompt": 2})
        out = ppo.loss(Outputs(new, values), ppo.prepare(inputs))
        found.append((out.loss.item() - out.metrics["policy_loss"], out.metrics["policy_loss"]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    assert found[0][1] != found[1][1]


@pytest.mark.parametrize("cap", [1.05, 5.0])
def test_at_the_start_of_the_step_truncated_token_weights_are_cispo(random_batch, cap):
    # New = proximal: the ratio of the loss is 1, and the weight is CISPO's own truncated one.
    inputs, _, _ = random_batch(seed=0, k=4, proximal=True)
    new = inputs.proximal_logprobs.clone().requires_grad_()
    settings = {"completions_per_prompt": 4, "kl_coef": 0.0}
    behaviour = replace(inputs, proximal_logprobs=None)
    gradients = []
    for params, known in (
        ({"ratio_max": cap}, behaviour),
        (decoupled(level="token", cap=cap), inputs),
    ):
        cispo = build("cispo", {**settings, **params})
        loss = cispo.loss(Outputs(new), cispo.prepare(known)).loss
        gradients.append(torch.autograd.grad(loss, new)[0])
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (partial(masked, low=0.0, high=1e9), {"low": 0.9, "high": 1.1}),
        (partial(second_moment, budget=1e9), {"budget": 0.005}),
        (partial(geometric, level="token", low=0.0, high=1e9), {"low": 0.98, "high": 1.02}),
    ],
)
@pytest.mark.parametrize("name", ["ppo", "grpo", "cispo"])
def test_a_mask_that_lets_all_through_is_decoupled_and_others_only_remove(
    random_batch, name, wide, narrow
):
    inputs, new, values = random_batch(seed=0, prompts=8, proximal=True)
    new.requires_grad_()
    gradients = []
    for params in (decoupled(), wide(), wide(**narrow)):
        algorithm = build(name, {"completions_per_prompt": 2, "kl_coef": 0.0, **params})
        loss = algorithm.loss(Outputs(new, values), algorithm.prepare(inputs)).loss
        gradients.append(torch.autograd.grad(loss, new)[0])
    assert torch.equal(gradients[0], gradients[1])
    kept = gradients[2] != 0
    torch.testing.assert_close(gradients[2][kept], gradients[0][kept], rtol=1e-12, atol=1e-12)
    assert kept.sum() < (gradients[0] != 0).sum()


@pytest.mark.parametrize("seed", range(5))
def test_second_moment_of_what_is_left_fits_and_one_more_would_not(seed):
    generator = torch.Generator().manual_seed(seed)
    squares, candidates = torch.rand(4, 6, generator=generator), torch.rand(4, 6) < 0.8
    left = within_second_moment(squares, candidates, 0.3)
    assert squares[left].mean() <= 0.3
    dropped = candidates & ~left
    assert squares[dropped].min() > squares[left].max()
    assert torch.cat([squares[left], squares[dropped].min()[None]]).mean() > 0.3
    assert not within_second_moment(squares, candidates, 0.0).any()
    assert torch.equal(within_second_moment(squares, candidates, 1.0), candidates)


@pytest.mark.parametrize(("low", "high", "weights"), [(0.5, 1.2, [0, 1]), (0.8, 1.4, [1, 0])])
def test_geometric_mask_has_two_bounds(fixture_batch, low, high, weights):
    # Geometric means 1.305605 | .740818.
    inputs, _ = fixture_batch(padding=0.0)
    log_ratio = inputs.proximal_logprobs - inputs.behaviour_logprobs
    found, is_cut = GeometricMask(low=low, high=high).weights(log_ratio, inputs.mask)
    assert found.tolist() == weights
    assert is_cut.tolist() == [not weight for weight in weights]
