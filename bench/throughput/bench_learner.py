"""The learner's step by algorithm, and scoring, as a share of the machine's matrix products.

Both are compared with the same matrix products done alone, at the same shapes, and with a large
square one, which is the fastest the machine can do. The ratios are the share reached.
"""

from __future__ import annotations

from typing import cast

import pytest
import torch

from bench.algorithms.base import Inputs, Outputs
from bench.learning import diagnostics
from bench.learning.learner import Learner
from bench.learning.logprobs import entropy
from bench.learning.scoring import Scorer
from bench.learning.sequences import Sequences
from bench.throughput import workload
from bench.throughput.measure import Meter, Series
from bench.throughput.workload import Product, bare, forward_products, token_products
from bench.types import Rollouts, ScoredRollouts

SQUARE = 1024
REPEATS = 20  # of what takes a millisecond or two, in a round


class Scored:
    """Replaces the scorer by fixed scores, so that only the step is timed."""

    def __init__(self, rollouts: Rollouts) -> None:
        """Draw rewards and reference log-probs."""
        torch.manual_seed(0)
        rewards = torch.randn(len(rollouts.completion_tokens), device=workload.DEVICE)
        self.scored = ScoredRollouts(rollouts, rewards, rollouts.logprobs)

    def score(self, *_: object, **__: object) -> ScoredRollouts:
        """Return the fixed scores."""
        return self.scored


def square() -> Series:
    """Return the product of two large square matrices."""
    run, flops = bare([Product(1, 1, SQUARE, SQUARE, SQUARE)], backward=False)
    return Series(name="square_matmul", run=run, flops=flops)


def learner_of(algorithm: str, rollouts: Rollouts) -> tuple[Learner, list[Product]]:
    """Return a learner and the matrix products of its forward pass that are unavoidable.

    They are those of each trained model on the rows that the algorithm trains on, each prompt
    once; what the step computes besides is overhead.
    """
    config = workload.config(algorithm)
    built = config.algorithm
    scorer = Scored(rollouts)
    values = workload.reward_model() if built.needs_values else None
    learner = Learner(config, built, workload.policy(), cast(Scorer, scorer), values)

    zeros = torch.zeros_like(rollouts.logprobs)
    trained = built.prepare(Inputs(scorer.scored, None, zeros)).rows
    rows, prompts = len(trained), len((trained // rollouts.completions_per_prompt).unique())
    settings = learner.policy.config
    needed = token_products(settings, rows, prompts, settings.vocab_size)
    if values is not None:
        needed += token_products(values.config, rows, prompts, 1)
    return learner, needed


@pytest.mark.parametrize("algorithm", workload.ALGORITHMS)
def bench_learner_step(measure: Meter, algorithm: str) -> None:
    """Train on one scored batch: tokens of its completions per second."""
    rollouts = workload.rollouts()
    learner, needed = learner_of(algorithm, rollouts)
    run, flops = bare(needed, backward=True)
    own = Series(
        name="learner",
        run=lambda: learner.step(rollouts),
        tokens=rollouts.completion_tokens.numel(),
        completions=len(rollouts.completion_tokens),
        flops=flops,
    )
    same = Series(name="matmuls_alone", run=run, flops=flops)
    measure("learner_step", workload.shape(algorithm), own, same, square())


@pytest.mark.parametrize("algorithm", ["rloo", "online_dpo"])
def bench_diagnostics(measure: Meter, algorithm: str) -> None:
    """Do again all that a step does for its diagnostics, beside whole steps.

    They may cost 2% of an update. A step is less than an update, which generates and scores too.
    """
    rollouts = workload.rollouts()
    learner, _ = learner_of(algorithm, rollouts)
    learner.step(rollouts)
    batch = learner.algorithm.prepare(Inputs(learner.scorer.scored, None, None))  # type: ignore[attr-defined]
    mask, behaviour = batch.mask, batch.old_logprobs
    new = (behaviour - 0.1).requires_grad_()
    limits = learner.algorithm.loss(Outputs(new), batch).limits
    vocabulary = learner.policy.config.vocab_size
    logprobs = torch.randn(*mask.shape, vocabulary, device=mask.device).log_softmax(-1)
    parameters = list(learner.policy.parameters())
    cosine = diagnostics.GradientCosine()
    cosine(parameters)

    def run() -> None:
        for _ in range(REPEATS):
            found = diagnostics.of_policies(new.detach(), behaviour, entropy(logprobs), mask)
            found |= diagnostics.of_loss(behaviour, mask, limits)
            diagnostics.as_columns(found | {"gradient_cosine": cosine(parameters)})

    own = Series(name="diagnostics", run=run, completions=REPEATS * len(mask))
    step = Series(
        name="learner", run=lambda: learner.step(rollouts), completions=len(mask), target=50
    )
    measure("diagnostics", workload.shape(algorithm), own, step)


def bench_score(measure: Meter) -> None:
    """Score one batch by the reward model and the reference."""
    rollouts, config = workload.rollouts(), workload.config("rloo")
    reward_model, reference = workload.reward_model(), workload.policy()
    scorer = Scorer(
        reward_model,
        reference,
        temperature=config.temperature,
        missing_eos_penalty=config.missing_eos_penalty,
    )
    rows, length = rollouts.completion_tokens.shape
    prompts, vocabulary = len(rollouts.prompts), reference.config.vocab_size
    needed = token_products(reference.config, rows, prompts, vocabulary) + forward_products(
        reward_model.config, workload.shape(), prompts=prompts, outputs=rows, width=1
    )
    run, flops = bare(needed, backward=False)
    own = Series(
        name="scorer",
        run=lambda: scorer.score(rollouts, Sequences.of(rollouts), ref_logprobs=True),
        tokens=rows * length,
        completions=rows,
        flops=flops,
    )
    same = Series(name="matmuls_alone", run=run, flops=flops)
    measure("score", workload.shape(), own, same, square())
