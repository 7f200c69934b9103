"""TRL's SFTTrainer and RewardTrainer on tokens, made quiet and repeatable."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
)
from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from bench.hub import load_model, quiet
from bench.types import Prompt

if TYPE_CHECKING:
    from bench.stage_config import StageParams

Curve = list[dict[str, Any]]  # what the trainer logged, plus "accuracy"

LOGGING_STEPS = 25


def train_sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Iterable[tuple[Prompt, tuple[int, ...]]],
    params: StageParams,
    seed: int,
    directory: Path,
) -> Curve:
    """Train ``model`` in place on completions only, one pass over ``pairs``, and save it.

    Source: arXiv 2410.18252, appendix A; the loss is cross-entropy averaged over tokens.
    """
    rows = [(prompt.token_ids, completion) for prompt, completion in pairs]
    dataset = Dataset.from_dict({
        "input_ids": [prompt + completion for prompt, completion in rows],
        "labels": [(-100,) * len(prompt) + completion for prompt, completion in rows],
    })  # fmt: skip
    with quiet(), tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                **_common(seed, scratch),
                per_device_train_batch_size=params.sft_batch_size,
                learning_rate=params.sft_learning_rate,
                warmup_steps=params.sft_warmup_steps,
                adam_beta2=params.sft_adam_beta2,
                weight_decay=params.sft_weight_decay,
                num_train_epochs=1,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        log = _run(trainer)
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    return _curve(log, "mean_token_accuracy")


def train_reward(
    sft_dir: Path,
    tokenizer: PreTrainedTokenizerBase,
    comparisons: Sequence[tuple[Prompt, tuple[int, ...], tuple[int, ...]]],
    params: StageParams,
    seed: int,
    directory: Path,
) -> Curve:
    """Train a scalar reward model from the SFT checkpoint by the Bradley-Terry loss and save it.

    Its score is read at the last token that is not padding. Source: arXiv 2410.18252, appendix A.

    Raises:
        UserError: the SFT checkpoint cannot be loaded.
    """
    dataset = Dataset.from_dict({
        "chosen_ids": [prompt.token_ids + chosen for prompt, chosen, _ in comparisons],
        "rejected_ids": [prompt.token_ids + rejected for prompt, _, rejected in comparisons],
    })  # fmt: skip
    with (
        quiet(),
        tempfile.TemporaryDirectory(dir=directory.parent) as scratch,
        torch.random.fork_rng(),
    ):
        torch.manual_seed(seed)  # draws the new score head
        model = load_model(
            AutoModelForSequenceClassification,
            sft_dir,
            vocabulary_tokens=len(tokenizer),
            untrained=["score.weight"],
            num_labels=1,
            pad_token_id=tokenizer.pad_token_id,
        )
        trainer = RewardTrainer(
            model=model,
            args=RewardConfig(
                **_common(seed, scratch),
                per_device_train_batch_size=params.reward_batch_size,
                learning_rate=params.reward_learning_rate,
                warmup_steps=params.reward_warmup_steps,
                adam_beta2=params.reward_adam_beta2,
                weight_decay=params.reward_weight_decay,
                num_train_epochs=params.reward_epochs,
                center_rewards_coefficient=params.reward_centering,
            ),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        log = _run(trainer)
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    return _curve(log, "accuracy")


def _common(seed: int, scratch: str) -> dict[str, Any]:
    return {
        "output_dir": scratch,
        "lr_scheduler_type": "cosine",
        "bf16": False,
        "activation_checkpointing": False,
        "max_length": None,
        "seed": seed,
        "logging_steps": LOGGING_STEPS,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def _run(trainer: Trainer) -> list[dict[str, Any]]:
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def _curve(log: list[dict[str, Any]], accuracy: str) -> Curve:
    return [{**entry, "accuracy": entry[accuracy]} for entry in log]
