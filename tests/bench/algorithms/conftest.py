"""Batches for the algorithms' tests, and TRL's loss functions cut loose from their trainers.

The fixtures are factories of session scope, so that hypothesis may use them.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.algorithms import build
from bench.algorithms.base import Inputs, Outputs
from bench.types import Prompt, Rollouts, ScoredRollouts

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


class OneProcess:
    """Stands in for an accelerator of one process."""

    device = torch.device("cpu")
    num_processes = 1

    def gather(self, x: Tensor) -> Tensor:
        return x

    def gather_for_metrics(self, x: Tensor) -> Tensor:
        return x

    def reduce(self, x: Tensor, reduction: str) -> Tensor:
        del reduction
        return x


def _trainer(**settings: Any) -> Any:
    metrics: dict[str, Any] = {"train": defaultdict(list), "eval": defaultdict(list)}
    return SimpleNamespace(
        accelerator=OneProcess(),
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        _metrics=metrics,
        **settings,
    )


@pytest.fixture(scope="session")
def trl_dpo_loss() -> Callable[..., Tensor]:
    """Return TRL's DPO loss of M rows, all chosen first: (new, ref, mask, beta, loss_type)."""
    from trl.trainer.dpo_trainer import DPOTrainer

    def loss(new: Tensor, ref: Tensor, mask: Tensor, beta: float, loss_type: str) -> Tensor:
        trainer = _trainer(
            beta=beta,
            loss_types=[loss_type],
            loss_weights=[1.0],
            label_smoothing=0.0,
            f_divergence_type="reverse_kl",
            ld_alpha=None,
            precompute_ref_logps=True,
            use_weighting=False,
            _tp_size=1,
            _total_train_tokens=0,
        )
        unused = torch.zeros_like(new)
        outputs = SimpleNamespace(
            log_probs=new * mask, entropy=unused, mean_logits=unused, is_top1=mask
        )
        ref_chosen, ref_rejected = (ref * mask).sum(1).chunk(2)
        prompt_column = torch.zeros(len(mask), 1, dtype=torch.bool)
        completion_mask = torch.cat([prompt_column, mask], 1)
        inputs = {
            "input_ids": torch.zeros_like(completion_mask, dtype=torch.int64),
            "attention_mask": torch.ones_like(completion_mask),
            "completion_mask": completion_mask,
            "ref_chosen_logps": ref_chosen,
            "ref_rejected_logps": ref_rejected,
        }
        value: Tensor = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
        return value

    return loss


def _completion_inputs(mask: Tensor, **tensors: Tensor) -> dict[str, Tensor]:
    tokens = torch.zeros_like(mask, dtype=torch.int64)
    return {
        "prompt_ids": tokens[:, :1],
        "prompt_mask": mask[:, :1],
        "completion_ids": tokens,
        "completion_mask": mask.long(),
        **tensors,
    }


@pytest.fixture(scope="session")
def trl_rloo_loss() -> Callable[..., Tensor]:
    """Return TRL's RLOO loss: (new, old, mask, advantages, clip_range)."""
    from trl.trainer.rloo_trainer import RLOOTrainer

    def loss(
        new: Tensor, old: Tensor, mask: Tensor, advantages: Tensor, clip_range: float
    ) -> Tensor:
        trainer = _trainer(
            epsilon_low=clip_range,
            epsilon_high=clip_range,
            _get_per_token_logps_and_entropies=lambda *_, **__: (new, torch.zeros_like(new), None),
        )
        inputs = _completion_inputs(mask, advantages=advantages, old_logps=(old * mask).sum(1))
        value: Tensor = RLOOTrainer._compute_loss(trainer, None, inputs)
        return value

    return loss


@pytest.fixture(scope="session")
def trl_grpo_loss() -> Callable[..., Tensor]:
    """Return TRL's GRPO family: (new, old, ref, mask, advantages) and its settings."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    def loss(
        new: Tensor,
        old: Tensor,
        ref: Tensor,
        mask: Tensor,
        advantages: Tensor,
        *,
        beta: float = 0.0,
        loss_type: str = "grpo",
        level: str = "token",
        epsilon_low: float = 0.2,
        epsilon_high: float = 0.2,
        delta: float | None = None,
        max_completion_length: int = 20,
    ) -> Tensor:
        trainer = _trainer(
            beta=beta,
            loss_type=loss_type,
            importance_sampling_level=level,
            epsilon_low=epsilon_low,
            epsilon_high=epsilon_high,
            top_entropy_quantile=1.0,
            off_policy_mask_threshold=None,
            use_vllm=False,
            current_gradient_accumulation_steps=1,
            _entropy_bonus_enabled=False,
            max_completion_length=max_completion_length,
            vllm_importance_sampling_correction=False,
            get_gamma_weights=GRPOTrainer.get_gamma_weights,
            args=SimpleNamespace(
                use_bias_correction_kl=False,
                delta=delta,
                steps_per_generation=1,
                sapo_temperature_pos=1.0,
                sapo_temperature_neg=1.05,
                vespo_k_pos=2.0,
                vespo_lambda_pos=3.0,
                vespo_k_neg=3.0,
                vespo_lambda_neg=2.0,
            ),
            _get_per_token_logps_and_entropies=lambda *_, **__: (new, torch.zeros_like(new), None),
        )
        inputs = _completion_inputs(
            mask,
            advantages=advantages,
            old_per_token_logps=old,
            ref_per_token_logps=ref,
            num_items_in_batch=mask.sum(),
        )
        value: Tensor = GRPOTrainer._compute_loss(trainer, None, inputs)
        return value

    return loss
