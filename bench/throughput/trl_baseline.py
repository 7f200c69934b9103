"""TRL's own online DPO trainer, one optimiser step at a time."""

from __future__ import annotations

import os

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # read on import

import threading
from pathlib import Path

from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

from bench.config import RunConfig
from bench.hub import load_model, load_pretrained
from bench.throughput import workload
from bench.types import StageModels

PATIENCE_S = 300.0


class TrlOnlineDpo(TrainerCallback):
    """Runs ``OnlineDPOTrainer.train`` in a thread that is paused between calls of ``step``.

    So its steps can be timed in turn with another's, each from the end of one optimiser step to
    the end of the next: data loading, generation, reward, reference, loss, optimiser.

    Example:
        >>> with TrlOnlineDpo(config, models, scratch) as trl:
        ...     trl.step()
    """

    def __init__(self, config: RunConfig, models: StageModels, scratch: Path) -> None:
        """Build the trainer on the same models, prompts and batch size as ``config``."""
        prompts = workload.task().prompts("train")
        # TRL joins the texts: the space separates the first word of a completion.
        texts = [f"{workload.task().tokenizer.decode(list(p.token_ids))} " for p in prompts]
        tokenizer = load_pretrained(AutoTokenizer, models.sft_dir)
        assert models.reward_dir is not None
        self.trainer = OnlineDPOTrainer(
            model=load_model(AutoModelForCausalLM, models.sft_dir),
            ref_model=load_model(AutoModelForCausalLM, models.sft_dir),
            reward_funcs=load_model(AutoModelForSequenceClassification, models.reward_dir),
            reward_processing_classes=tokenizer,
            processing_class=tokenizer,
            train_dataset=Dataset.from_dict({"prompt": texts}),
            callbacks=[self],
            args=OnlineDPOConfig(
                output_dir=str(scratch),
                per_device_train_batch_size=config.prompts_per_batch,
                max_steps=config.updates,
                learning_rate=config.learning_rate,
                temperature=config.temperature,
                max_new_tokens=config.max_completion_tokens,
                missing_eos_penalty=1.0,
                activation_checkpointing=False,
                bf16=False,
                use_cpu=workload.DEVICE == "cpu",
                disable_tqdm=True,
                logging_strategy="no",
                save_strategy="no",
                report_to=[],
            ),
        )
        self.trainer.args._n_gpu = min(self.trainer.args.n_gpu, 1)  # as the learner
        self._gate = threading.Barrier(2, timeout=PATIENCE_S)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._train, name="trl", daemon=True)

    def step(self) -> None:
        """Let the trainer do one optimiser step.

        Raises:
            RuntimeError: it failed.
        """
        try:
            self._gate.wait()
            self._gate.wait()
        except threading.BrokenBarrierError:
            raise RuntimeError("TRL's trainer did not finish its step") from self._error

    def __enter__(self) -> TrlOnlineDpo:
        """Start the thread, which waits for the first step."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End the training."""
        del error
        self._gate.abort()
        self._thread.join(PATIENCE_S)

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        """Hand over after an optimiser step, until the next is asked for."""
        del args, kwargs
        self._gate.wait()
        self._gate.wait()

    def _train(self) -> None:
        try:
            self._gate.wait()
            self.trainer.train()
        except Exception as error:  # raised in the caller of ``step``
            self._error = error
            self._gate.abort()
