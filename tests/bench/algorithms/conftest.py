"""Batches for the algorithms' tests.

The fixtures are factories of session scope, so that hypothesis may use them.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.algorithms import build
from bench.algorithms.base import Inputs, Outputs
from bench.types import Prompt, Rollouts, ScoredRollouts

from .trl_losses import trl_dpo_loss, trl_grpo_loss, trl_rloo_loss  # noqa: F401

DTYPE = torch.float64


@pytest.fixture(scope="session")
def make_inputs() -> Callable[..., Inputs]:
    """Return a factory of inputs from plain nested lists; padding is where ``mask`` is 0.

    ``old`` are the behaviour policy's log-probs; they are the loss's unless there are proximal.
    """

    def optional(x: Any) -> Tensor | None:
        return None if x is None else torch.as_tensor(x, dtype=DTYPE)

    def make(
        *,
        k: int,
        rewards: Any,
        mask: Any,
        old: Any,
        ref: Any,
        values: Any = None,
        proximal: Any = None,
    ) -> Inputs:
        mask = torch.as_tensor(mask).bool()
        rows, tokens = mask.shape
        rollouts = Rollouts(
            policy_version=0,
            prompts=tuple(Prompt(i, (1,)) for i in range(rows // k)),
            completions_per_prompt=k,
            prompt_tokens=torch.ones(rows, 1, dtype=torch.int64),
            prompt_mask=torch.ones(rows, 1, dtype=torch.bool),
            completion_tokens=torch.ones(rows, tokens, dtype=torch.int64),
            completion_mask=mask,
            logprobs=torch.as_tensor(old, dtype=DTYPE),
            finished=torch.ones(rows, dtype=torch.bool),
        )
        scored = ScoredRollouts(
            rollouts,
            rewards=torch.as_tensor(rewards, dtype=DTYPE),
            ref_logprobs=torch.as_tensor(ref, dtype=DTYPE),
        )
        return Inputs(scored=scored, proximal_logprobs=optional(proximal), values=optional(values))

    return make


@pytest.fixture(scope="session")
def random_batch(
    make_inputs: Callable[..., Inputs],
) -> Callable[..., tuple[Inputs, Tensor, Tensor]]:
    """Return a factory of (inputs, new log-probs [R, T], new values [R, T]), keyed by a seed.

    Lengths are 1 to T. The policy has moved by about 0.1 nats a token, far enough to clip some;
    proximal log-probs, if asked for, lie as far from the behaviour policy's on another side.
    """

    def make(
        seed: int,
        *,
        prompts: int = 3,
        k: int = 2,
        tokens: int = 5,
        padding: float = 0.0,
        proximal: bool = False,
    ) -> tuple[Inputs, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        rows = prompts * k

        def normal(scale: float) -> Tensor:
            noise = torch.randn(rows, tokens, generator=generator, dtype=DTYPE)
            return scale * noise

        lengths = torch.randint(1, tokens + 1, (rows,), generator=generator)
        mask = torch.arange(tokens) < lengths[:, None]
        ref = -1.5 + normal(0.3)
        old = ref + normal(0.2)
        new = old + normal(0.1)
        values = normal(0.5)
        new_values = values + normal(0.3)
        rewards = normal(1.0)[:, 0]
        start = old + normal(0.1)
        for tensor in (ref, old, start, new, values, new_values):
            tensor[~mask] = padding
        inputs = make_inputs(
            k=k,
            rewards=rewards,
            mask=mask,
            old=old,
            ref=ref,
            values=values,
            proximal=start if proximal else None,
        )
        return inputs, new, new_values

    return make


@pytest.fixture(scope="session")
def fixture_batch(make_inputs: Callable[..., Inputs]) -> Callable[[float], tuple[Inputs, Tensor]]:
    """Return a factory of inputs and new log-probs: two completions of 3 and 2 tokens.

    All four policies differ: new / behaviour is 1.349859, .818731, 4.055200 | .367879, 1.349859,
    proximal / behaviour 1.105171, .904837, 2.225541 | .496585, 1.105171, and new / proximal
    1.221403, .904837, 1.822119 | .740818, 1.221403.
    """

    def make(padding: float) -> tuple[Inputs, Tensor]:
        inputs = make_inputs(
            k=2,
            rewards=[1.0, 0.0],
            mask=[[1, 1, 1], [1, 1, 0]],
            old=[[-1.0, -0.5, -2.6], [-0.2, -1.2, padding]],
            ref=[[-1.1, -0.5, -2.1], [-0.6, -1.3, padding]],
            values=[[0.0, 0.0, 0.0], [0.0, 0.0, padding]],
            proximal=[[-0.9, -0.6, -1.8], [-0.9, -1.1, padding]],
        )
        new = torch.tensor([[-0.7, -0.7, -1.2], [-1.2, -0.9, padding]], dtype=DTYPE)
        return inputs, new

    return make


@pytest.fixture(scope="session")
def loss_of_fixture(
    fixture_batch: Callable[[float], tuple[Inputs, Tensor]],
) -> Callable[..., tuple[float, list[float], dict[str, float]]]:
    """Return a factory of loss, gradient of the five tokens and metrics, for each padding alike.

    Old log-probs are the behaviour policy's. ``advantage`` replaces the loss's own by +-advantage.
    """

    def make(
        name: str, advantage: float | None = None, **params: Any
    ) -> tuple[float, list[float], dict[str, float]]:
        found = []
        for padding in (-9.0, math.inf, math.nan):
            inputs, new = fixture_batch(padding)
            algorithm = build(name, params)
            batch = algorithm.prepare(replace(inputs, proximal_logprobs=None))
            if advantage is not None:
                signs = torch.tensor([advantage, -advantage], dtype=DTYPE)
                batch = replace(batch, targets={**batch.targets, "advantages": signs})
            out = algorithm.loss(Outputs(new.requires_grad_()), batch)
            (gradient,) = torch.autograd.grad(out.loss, new)
            assert gradient[1, 2] == 0
            found.append((out.loss.item(), gradient.flatten().tolist()[:5], dict(out.metrics)))
        assert found[0] == found[1] == found[2]
        return found[0]

    return make
