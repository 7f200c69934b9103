import pytest

from bench.algorithms import build
from bench.algorithms.base import Outputs


@pytest.mark.parametrize(
    ("shift", "loss", "up", "down"),
    [
        # A = .5 and -.5, sums of log-probs -2.6 and -2.1, mean of two completions.
        (0.0, 0.125, -0.25, 0.25),
        (-0.1, 0.36, -0.3, 0.2),  # A = .6 and -.4
    ],
)
def test_loss_and_gradient_by_hand(loss_of_fixture, shift, loss, up, down):
    found, gradient, metrics = loss_of_fixture("asymre", kl_coef=0.0, baseline_shift=shift)
    assert found == pytest.approx(loss)
    assert gradient == pytest.approx([up] * 3 + [down] * 2)
    assert metrics["advantage_std"] == pytest.approx(0.5)


@pytest.mark.parametrize("k", [2, 5])
def test_it_is_vanilla_rloo_with_likelihood_of_all_completions(random_batch, k):
    # Centred advantages are (K - 1) / K times leave-one-out ones, so the control's coefficient is
    # K / (K - 1) times the shift.
    inputs, new, _ = random_batch(seed=k, k=k)
    losses = []
    for name, params in (
        ("asymre", {"baseline_shift": -0.3}),
        ("rloo_nll", {"nll_coef": 0.3 * k / (k - 1)}),
    ):
        algorithm = build(name, {"completions_per_prompt": k, **params})
        losses.append(algorithm.loss(Outputs(new), algorithm.prepare(inputs)).loss.item())
    assert losses[0] == pytest.approx((k - 1) / k * losses[1], rel=1e-12)


def test_without_a_shift_it_is_vanilla_rloo(random_batch):
    inputs, new, _ = random_batch(seed=1, k=3)
    losses = []
    for name, params in (("asymre", {"baseline_shift": 0.0}), ("rloo_vanilla", {})):
        algorithm = build(name, {"completions_per_prompt": 3, **params})
        losses.append(algorithm.loss(Outputs(new), algorithm.prepare(inputs)).loss.item())
    assert losses[0] == pytest.approx(2 / 3 * losses[1], rel=1e-12)
