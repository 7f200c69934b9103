import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs


def test_loss_is_the_summed_negative_log_likelihood_of_the_best(make_inputs):
    zeros = [[0.0] * 3] * 4
    inputs = make_inputs(
        k=2,
        rewards=[0.0, 3.0, 1.0, 1.0],
        mask=[[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]],
        old=zeros,
        ref=zeros,
    )
    algorithm = build("best_of_2")
    batch = algorithm.prepare(inputs)
    # Row 1 beats row 0; rows 2 and 3 tie, so the first.
    assert batch.rows.tolist() == [1, 2]
    new = torch.tensor([[-1.0, -2.0, -9.0], [-4.0, -9.0, -9.0]], dtype=torch.float64)
    out = algorithm.loss(Outputs(new), batch)
    # ((1 + 2) + 4) / 2; gains 3 - 1.5 and 1 - 1, on average 0.75
    assert out.loss.item() == 3.5
    assert out.metrics == {"logprob_mean": -3.5, "reward_gain_mean": 0.75}


def test_loss_equals_cross_entropy_of_the_best_completion(random_batch):
    k, vocabulary = 3, 7
    inputs, _, _ = random_batch(seed=0, k=k)
    algorithm = build("best_of_2", {"completions_per_prompt": k})
    batch = algorithm.prepare(inputs)
    generator = torch.Generator().manual_seed(1)
    shape = batch.mask.shape
    logits = torch.randn(*shape, vocabulary, generator=generator, dtype=torch.float64)
    tokens = torch.randint(vocabulary, shape, generator=generator)
    logprobs = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    labels = tokens.masked_fill(~batch.mask, -100)
    cross_entropy = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), reduction="sum", ignore_index=-100
    )
    out = algorithm.loss(Outputs(logprobs), batch)
    assert out.loss.item() == pytest.approx(cross_entropy.item() / len(batch.rows), rel=1e-12)


def test_gradient_pushes_every_token_of_the_best_alike(random_batch):
    inputs, new, _ = random_batch(seed=1)
    algorithm = build("best_of_2")
    batch = algorithm.prepare(inputs)
    new = new[batch.rows].requires_grad_()
    (gradient,) = torch.autograd.grad(algorithm.loss(Outputs(new), batch).loss, new)
    torch.testing.assert_close(gradient, -batch.mask.double() / len(batch.rows))
