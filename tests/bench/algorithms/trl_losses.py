"""TRL's loss functions as fixtures, cut loose from their trainers."""

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor


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
