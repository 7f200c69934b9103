"""What each preset's policies start from: the task, the model and the stages. Imports no torch.

Every number is spelled out rather than left to a default, since a ``StageConfig``'s hash names the
checkpoints made from it.
"""

from __future__ import annotations

from dataclasses import replace

from bench.stage_config import StageConfig, StageParams
from bench.tasks import task_config
from bench.tasks.tldr_tiny.world import TldrTinyConfig
from bench.tasks.tldr_worth.world import TldrWorthConfig

CHAT_SFT_STEPS = 2500


def tiny_stage(model: str) -> StageConfig:
    """Return the world of preset ``tiny`` with a policy of size ``0.1m``, ``0.4m`` or ``2m``."""
    return StageConfig(
        task=TldrTinyConfig(
            subjects=11,
            verbs=16,
            objects=28,
            statements=5,
            max_own=3,
            max_clauses=4,
            superfluous_rate=0.9,
            omit_rate=0.1,
            misreport_rate=0.05,
            train_prompts=16384,
            tuning_prompts=1024,
            eval_prompts=1024,
            seed=0,
        ),
        model=model,
        params=StageParams(
            sft_steps=4000,
            sft_batch_size=128,
            sft_learning_rate=3e-3,
            sft_warmup_steps=100,
            comparisons=20000,
            comparison_temperature=1.0,
            max_completion_tokens=20,
            reward_epochs=1,
            reward_batch_size=128,
            reward_learning_rate=1e-3,
            reward_centering=0.01,
        ),
        seed=0,
    )


def worth_stage(model: str) -> StageConfig:
    """Return the world of preset ``worth`` with a policy of size ``0.06m``, ``0.1m`` or ``0.4m``.

    Larger models are trained for longer, so that they copy better and know more of what people
    tell. One reward model of size ``0.1m`` per run seed scores policies of all sizes.
    """
    rewarded = "0.1m"
    return StageConfig(
        task=TldrWorthConfig(
            verbs=32,
            objects=54,
            zipf_exponent=0.7,
            statements=5,
            interaction=0.3,
            taste=0.6,
            annotator_noise=0.2,
            price=0.6,
            embellished_rate=0.3,
            train_prompts=16384,
            tuning_prompts=1024,
            eval_prompts=1024,
            seed=0,
        ),
        model=model,
        reward_model=None if model == rewarded else rewarded,
        reward_per_seed=True,
        params=_worth_params(model),
        reward_params=None if model == rewarded else _worth_params(rewarded),
        seed=0,
    )


def _worth_params(model: str) -> StageParams:
    steps, learning_rate = {
        "0.06m": (1000, 4e-3),
        "0.1m": (1200, 4e-3),
        "0.4m": (1800, 2e-3),
    }[model]
    return StageParams(
        sft_steps=steps,
        sft_batch_size=64,
        sft_learning_rate=learning_rate,
        sft_warmup_steps=100,
        sft_adam_beta2=0.95,
        sft_weight_decay=0.1,
        comparisons=32000,
        comparison_temperature=1.0,
        max_completion_tokens=20,
        reward_epochs=1,
        reward_batch_size=32,
        reward_learning_rate=1e-3,
        reward_centering=0.01,
    )


def chat_stage(model: str) -> StageConfig:
    """Return ``worth_stage`` with the world of ``chat_worth``.

    SFT takes longer, the same for all sizes: besides copying there are instructions to learn.
    """
    worth = worth_stage(model)
    assert worth.params is not None
    return replace(
        worth,
        task=task_config("chat_worth")(),
        params=replace(worth.params, sft_steps=CHAT_SFT_STEPS),
        reward_params=worth.reward_params
        and replace(worth.reward_params, sft_steps=CHAT_SFT_STEPS),
    )


def smoke_stage(model: str = "smoke") -> StageConfig:
    """Return a smaller, easier world whose stages train within seconds."""
    return StageConfig(
        task=TldrTinyConfig(
            subjects=3,
            verbs=4,
            objects=4,
            statements=3,
            max_own=2,
            max_clauses=3,
            superfluous_rate=0.9,
            omit_rate=0.1,
            misreport_rate=0.05,
            train_prompts=1024,
            tuning_prompts=128,
            eval_prompts=128,
            seed=0,
        ),
        model=model,
        params=StageParams(
            sft_steps=150,
            sft_batch_size=64,
            sft_learning_rate=3e-3,
            sft_warmup_steps=10,
            comparisons=2000,
            comparison_temperature=1.0,
            max_completion_tokens=16,
            reward_epochs=1,
            reward_batch_size=64,
            reward_learning_rate=1e-3,
            reward_centering=0.01,
        ),
        seed=0,
    )


def tldr_stage(model: str) -> StageConfig:
    """Return the paper's TL;DR with Pythia ``410m``, ``1b`` or ``2.8b``, stages released."""
    return StageConfig(task=task_config("tldr")(), model=model, params=None)


def gsm8k_stage(model: str) -> StageConfig:
    """Return GSM8K with Rho-1B, its SFT model released; ``model`` is ``1b``."""
    return StageConfig(task=task_config("gsm8k")(), model=model, params=None)


def no_robots_stage(model: str) -> StageConfig:
    """Return No Robots with Llama 3.1 8B, stages released; ``model`` is ``8b``."""
    return StageConfig(task=task_config("no_robots")(), model=model, params=None)
