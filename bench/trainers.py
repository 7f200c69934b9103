"""TRL's SFTTrainer and RewardTrainer on tokens, made quiet and repeatable."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub.constants
import torch
import transformers
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
)
from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from bench.types import Prompt

Curve = list[dict[str, Any]]  # what the trainer logged, plus "stage"

if TYPE_CHECKING:
    from bench.stages import StageParams

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
    with _quiet(), tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                **_common(params, seed, scratch),
                per_device_train_batch_size=params.sft_batch_size,
                learning_rate=params.sft_learning_rate,
                warmup_steps=params.sft_warmup_steps,
                num_train_epochs=1,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        return _run(trainer, "sft", "mean_token_accuracy", tokenizer, directory)


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
    """
    dataset = Dataset.from_dict({
        "chosen_ids": [prompt.token_ids + chosen for prompt, chosen, _ in comparisons],
        "rejected_ids": [prompt.token_ids + rejected for prompt, _, rejected in comparisons],
    })  # fmt: skip
    with _quiet(), tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng():
        torch.manual_seed(seed)  # draws the new score head
        model = AutoModelForSequenceClassification.from_pretrained(
            sft_dir, num_labels=1, pad_token_id=tokenizer.pad_token_id
        )
        trainer = RewardTrainer(
            model=model,
            args=RewardConfig(
                **_common(params, seed, scratch),
                per_device_train_batch_size=params.reward_batch_size,
                learning_rate=params.reward_learning_rate,
                num_train_epochs=params.reward_epochs,
                center_rewards_coefficient=params.reward_centering,
            ),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        return _run(trainer, "reward", "accuracy", tokenizer, directory)


def _common(params: StageParams, seed: int, scratch: str) -> dict[str, Any]:
    return {
        "output_dir": scratch,
        "lr_scheduler_type": "cosine",
        "bf16": params.dtype == "bfloat16",
        "activation_checkpointing": False,
        "max_length": None,
        "seed": seed,
        "logging_steps": LOGGING_STEPS,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def _run(
    trainer: Trainer, stage: str, accuracy: str, tokenizer: PreTrainedTokenizerBase, directory: Path
) -> Curve:
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model = trainer.model
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return [
        {"stage": stage, **entry, "accuracy": entry[accuracy]}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries from printing reports and from sending usage to the hub."""
    verbosity = transformers.logging.get_verbosity()
    telemetry_off = huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
        huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = telemetry_off
