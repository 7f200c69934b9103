import itertools
from dataclasses import replace

import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs
from bench.algorithms.functional import leave_one_out


def test_loss_of_two_by_hand(make_inputs):
    inputs = make_inputs(
        k=2,
        rewards=[1.0, 0.0],
        mask=[[1, 1], [1, 0]],
        old=[[0.0, 0.0], [0.0, 0.0]],
        ref=[[-1.0, -1.0], [-1.0, 0.0]],
    )
    copg = build("copg", {"beta": 0.1})
    new = torch.tensor([[-1.0, -0.5], [-1.5, 0.0]], dtype=torch.float64)
    out = copg.loss(Outputs(new), copg.prepare(inputs))
    # new - ref = 0.5, -0.5: R = 1 - 0.05 = 0.95 and 0.05; (0.9)^2 / (4 * 0.1) = 2.025
    assert out.loss.item() == pytest.approx(2.025)
    assert out.metrics == {
        "advantage_std": pytest.approx(0.9),
        "kl_ref_mean": pytest.approx(0.0),
    }


def test_loss_of_three_by_hand(make_inputs):
    zeros = [[0.0]] * 3
    inputs = make_inputs(k=3, rewards=[1.0, 2.0, 4.0], mask=[[1]] * 3, old=zeros, ref=zeros)
    copg = build("copg", {"beta": 0.5, "completions_per_prompt": 3})
    out = copg.loss(Outputs(torch.zeros(3, 1, dtype=torch.float64)), copg.prepare(inputs))
    # Pairs: 1 + 9 + 4 = 14; 14 / (2 * 0.5 * 3 * 2) = 7 / 3
    assert out.loss.item() == pytest.approx(7 / 3)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_loss_equals_a_naive_loop_over_pairs(random_batch, k):
    inputs, new, _ = random_batch(seed=k, k=k)
    copg = build("copg", {"completions_per_prompt": k})
    mask, ref = inputs.scored.rollouts.completion_mask, inputs.scored.ref_logprobs
    total, prompts = 0.0, len(mask) // k
    for first in range(0, len(mask), k):
        rewards = []
        for row in range(first, first + k):
            kl = sum((new[row, t] - ref[row, t]).item() for t in range(int(mask[row].sum())))
            rewards.append(inputs.scored.rewards[row].item() - 0.05 * kl)
        pairs = itertools.combinations(rewards, 2)
        total += sum((a - b) ** 2 for a, b in pairs) / (2 * 0.05 * k * (k - 1))
    out = copg.loss(Outputs(new), copg.prepare(inputs))
    assert out.loss.item() == pytest.approx(total / prompts, rel=1e-10)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_gradient_is_that_of_leave_one_out_advantages(random_batch, k):
    inputs, new, _ = random_batch(seed=k, k=k)
    copg = build("copg", {"completions_per_prompt": k})
    batch = copg.prepare(inputs)
    new.requires_grad_()
    (gradient,) = torch.autograd.grad(copg.loss(Outputs(new), batch).loss, new)
    kl = ((new.detach() - inputs.scored.ref_logprobs) * batch.mask).sum(1)
    advantages = leave_one_out(inputs.scored.rewards - 0.05 * kl, k)
    # -(1 / K) A_i for each token of completion i, averaged over the prompts: -A_i / R
    torch.testing.assert_close(gradient, -advantages[:, None] * batch.mask / len(advantages))


def test_gradient_on_policy_is_that_of_vanilla_rloo(random_batch):
    inputs, _, _ = random_batch(seed=9, k=4)
    gradients = []
    for name, coefficient in (("copg", "beta"), ("rloo_vanilla", "kl_coef")):
        algorithm = build(name, {"completions_per_prompt": 4, coefficient: 0.3})
        new = inputs.old_logprobs.clone().requires_grad_()
        algorithm.loss(Outputs(new), algorithm.prepare(inputs)).loss.backward()
        gradients.append(new.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("name", "params", "factor", "loss", "first", "last"),
    [
        # x = sums of new - ref 1.1 | -.2, of new - behaviour 1.5 | -.7; R = 1 | 0.
        ("copg", {"beta": 0.5}, 1.0, 0.061250, -0.175, 0.175),
        # TBA, in the factor of which K = 2 and beta = .5: (2 / beta) (K - 1) / K.
        ("copg", {"beta": 0.5}, 2.0, 0.122500, -0.35, 0.35),
        # (2.2 - 1)^2: the log-ratios differ by more than the rewards, so it pulls back.
        ("rebel", {"beta": 1.0}, 4.0, 1.44, 2.4, -2.4),
        # Kimi K2: ((1 - .5 - .15)^2 + (0 - .5 + .07)^2) / 2.
        ("kimi", {"beta": 0.1}, 0.2, 0.1537, -0.035, 0.043),
        # V = .5 log((e^2 + 1) / 2) = .716890: (.283110 - .75)^2 and (-.716890 + .35)^2.
        ("oapl", {"beta": 0.5}, 1.0, 0.176298, 0.233445, 0.183445),
        # A*-PO with the same V.
        ("oapl", {"beta": 0.5, "anchor": "reference"}, 1.0, 0.225892, 0.133445, 0.308445),
    ],
)
def test_family_by_hand(loss_of_fixture, name, params, factor, loss, first, last):
    found, gradient, _ = loss_of_fixture(name, **params)
    assert factor * found == pytest.approx(loss, abs=5e-7)
    expected = [first] * 3 + [last] * 2
    assert [factor * g for g in gradient] == pytest.approx(expected, abs=5e-7)


def test_kimi_k15_by_hand(loss_of_fixture):
    # Its loss is -(R - mean R) log pi + tau / 2 x^2, which differs by a constant: .1935.
    found, gradient, _ = loss_of_fixture("kimi", beta=0.1)
    residuals, x, total = (0.5, -0.5), (1.5, -0.7), (-2.6, -2.1)
    published = sum(-r * s + 0.05 * y * y for r, y, s in zip(residuals, x, total, strict=True)) / 2
    constant = sum(r * r / 0.2 + r * (s - y) for r, y, s in zip(residuals, x, total, strict=True))
    assert published == pytest.approx(0.1935)
    assert found == pytest.approx(published + constant / 2)
    assert gradient == pytest.approx([-0.175] * 3 + [0.215] * 2)


@pytest.mark.parametrize("k", [2, 4])
def test_tba_is_copg(random_batch, k):
    inputs, new, _ = random_batch(seed=k, k=k)
    beta = 0.3
    copg = build("copg", {"completions_per_prompt": k, "beta": beta})
    x = ((new - inputs.ref_logprobs) * inputs.mask).sum(1).view(-1, k)
    scaled = inputs.scored.rewards.view(-1, k) / beta
    log_z = (scaled - x).mean(1, keepdim=True)
    tba = (log_z + x - scaled).square().mean().item()
    found = copg.loss(Outputs(new), copg.prepare(inputs)).loss.item()
    assert tba == pytest.approx(2 / beta * (k - 1) / k * found, rel=1e-12)


@pytest.mark.parametrize(("name", "k"), [("kimi", 2), ("kimi", 5)])
def test_on_policy_gradient_is_that_of_centred_rewards(random_batch, name, k):
    inputs, _, _ = random_batch(seed=k, k=k)
    algorithm = build(name, {"completions_per_prompt": k})
    new = inputs.old_logprobs.clone().requires_grad_()
    batch = algorithm.prepare(inputs)
    (gradient,) = torch.autograd.grad(algorithm.loss(Outputs(new), batch).loss, new)
    groups = inputs.scored.rewards.view(-1, k)
    centred = (groups - groups.mean(1, keepdim=True)).view(-1, 1)
    torch.testing.assert_close(gradient, -centred * batch.mask / len(batch.mask))


def test_online_ipo_is_copg_with_a_reward_gap_of_one_half(random_batch):
    inputs, new, _ = random_batch(seed=2)
    gaps = torch.tensor([0.5, 0.0]).repeat(len(new) // 2).double()
    inputs = replace(inputs, scored=replace(inputs.scored, rewards=gaps))
    losses = {}
    for name in ("online_ipo", "copg"):
        algorithm = build(name, {"beta": 0.2})
        batch = algorithm.prepare(inputs)
        losses[name] = algorithm.loss(Outputs(new[batch.rows]), batch).loss.item()
    assert losses["online_ipo"] == pytest.approx(4 / 0.2 * losses["copg"], rel=1e-12)
