"""``tldr``: summarise a Reddit post, judged by a 6.9B reward model; the paper's main task.

Data and models are those of section 3.1 of arXiv:2410.18252, by hub id or from a hub directory (see
``bench.hub``). All models share Pythia's vocabulary, so token ids pass between them as they are.

Deviation: the authors' evaluation pads the judge's input with EOS, and so reads the score at the
token before EOS. Here padding is a token of its own, and a finished completion is scored at its
EOS, where the judge was trained to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bench.errors import UserError
from bench.hub import load_model, load_pretrained, resolve_hub
from bench.tasks.base import Split, Task, TaskConfig
from bench.tasks.hub_data import TextTable
from bench.types import Prompt

DATASET = "vwxyzjn/summarize_from_feedback_tldr_3_filtered_oai_preprocessing_1706381144"
GOLD_MODEL = "cleanrl/EleutherAI_pythia-6.9b-deduped__reward__tldr"
STAGE_MODELS = {  # policy size: SFT model, reward model of the same size
    size: (f"mnoukhov/pythia{size}-sft-tldr", f"mnoukhov/pythia{size}-rm-tldr6.9b")
    for size in ("410m", "1b", "2.8b")
}
COLUMNS = ("query", "reference_response")
QUERY_END = "TL;DR:"
FIRST_ID = {"train": 0, "validation": 10**9}  # prompt id of a file split's first row


@dataclass(frozen=True, kw_only=True)
class TldrConfig(TaskConfig):
    """Parameters of the task."""

    name: ClassVar[str] = "tldr"
    implementation: ClassVar[str] = "bench.tasks.tldr:Tldr"

    max_prompt_tokens: int = 512  # longer prompts are left out
    tuning_prompts: int = 4096  # the last ones of the data set's train split
    gold_batch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse numbers below 1.

        Raises:
            UserError: a number is out of range.
        """
        for name in ("max_prompt_tokens", "tuning_prompts", "gold_batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"tldr parameter {name} = {getattr(self, name)}: must be >= 1")

    def win_rate_ceiling(self, split: Split, prompts: int) -> None:
        """Return None: what the judge, a model, would score best is unknown."""
        del split, prompts

    def released(self, model: str) -> tuple[str, str]:
        """Return where the SFT and the reward model of a policy size are.

        Raises:
            UserError: unknown size, or the hub directory in use lacks a model.
        """
        if model not in STAGE_MODELS:
            raise UserError(f"tldr model {model!r}: allowed are {', '.join(STAGE_MODELS)}")
        sft, reward = STAGE_MODELS[model]
        return resolve_hub(sft), resolve_hub(reward)

    def judge(self) -> str:
        """Return where the judge is.

        Raises:
            UserError: the hub directory in use lacks it.
        """
        return resolve_hub(GOLD_MODEL)

    def longest_prompt_tokens(self) -> int:
        """Return the limit: the data need not be there."""
        return self.max_prompt_tokens


class Tldr(Task):
    """The task on its real data; see ``bench.tasks.base.Task``.

    Split ``eval`` is the data set's ``validation``, ``tuning`` the end of its ``train``; its
    ``test`` is not used. A prompt that occurs more than once is kept once, ``eval`` first.
    """

    def __init__(self, params: TldrConfig) -> None:
        """Find all files and load the tokenizer; data and judge are loaded when first needed.

        Raises:
            UserError: a data set, a column or a model is missing, or the tokenizer does not fit.
        """
        self._params = params
        self._tables = {split: TextTable(DATASET, split, COLUMNS) for split in FIRST_ID}
        source = resolve_hub(STAGE_MODELS["410m"][0], "tokenizer.json")
        self.tokenizer: PreTrainedTokenizerBase = load_pretrained(AutoTokenizer, source)
        if self.tokenizer.pad_token_id in (None, self.tokenizer.eos_token_id):
            raise UserError(f"tokenizer of {source}: needs a padding token that is not EOS")
        self._gold_source = resolve_hub(GOLD_MODEL)
        self._reference_texts: dict[int, str] = {}

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """Return the split's prompts, always in the same order."""
        if split == "eval":
            return self._validation
        tuning = self._params.tuning_prompts
        return self._train[:-tuning] if split == "train" else self._train[-tuning:]

    def references(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        """Return the human summary of each prompt of a split, EOS included."""
        eos, eos_id = self.tokenizer.eos_token, self.tokenizer.eos_token_id
        texts = [self._reference_texts[p.prompt_id].removesuffix(eos) for p in prompts]
        return [(*tokens, eos_id) for tokens in self._tokenize(texts)]

    def gold_rewards(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]
    ) -> NDArray[np.float64]:
        """Return the judge's score at each completion's last token, finished or not."""
        rows = [
            torch.tensor([*prompt.token_ids, *completion])
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        rewards = np.empty(len(rows))
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(rows), self._params.gold_batch_size):
            batch = by_length[start : start + self._params.gold_batch_size]
            tokens = pad_sequence(
                [rows[i] for i in batch],
                batch_first=True,
                padding_value=self.tokenizer.pad_token_id,
            )
            with torch.no_grad():
                logits = self._gold(tokens.to(self._gold.device)).logits
            rewards[batch] = logits[:, 0].double().cpu().numpy()
        return rewards

    @cached_property
    def _validation(self) -> list[Prompt]:
        return self._read("validation", set())

    @cached_property
    def _train(self) -> list[Prompt]:
        prompts = self._read("train", {prompt.token_ids for prompt in self._validation})
        if len(prompts) <= self._params.tuning_prompts:
            raise UserError(
                f"tldr parameter tuning_prompts = {self._params.tuning_prompts}: must be below the "
                f"{len(prompts)} prompts of split train"
            )
        return prompts

    @cached_property
    def _gold(self) -> PreTrainedModel:
        on_gpu = torch.cuda.is_available()
        model = load_model(
            AutoModelForSequenceClassification,
            self._gold_source,
            vocabulary_tokens=len(self.tokenizer),
            num_labels=1,
            dtype=torch.float16 if on_gpu else torch.float32,  # the authors' evaluation: float16
        )
        model.config.pad_token_id = self.tokenizer.pad_token_id
        gold: PreTrainedModel = model.eval().to("cuda" if on_gpu else "cpu")
        return gold

    def _read(self, file_split: str, seen: set[tuple[int, ...]]) -> list[Prompt]:
        """Return the prompts that are short enough and not in ``seen``; keeps their references."""
        table = self._tables[file_split]
        # One integer object per token of the vocabulary, not one per token of the data.
        shared = list(range(len(self.tokenizer)))
        prompts: list[Prompt] = []
        prompt_id = FIRST_ID[file_split]
        for queries, references in table.batches():
            rows = zip(queries, self._tokenize(queries), references, strict=True)
            for query, tokens, reference in rows:
                if not query.endswith(QUERY_END):
                    row = prompt_id - FIRST_ID[file_split]
                    raise table.error(row, f"query must end with {QUERY_END!r}")
                token_ids = tuple(shared[token] for token in tokens)
                if len(token_ids) <= self._params.max_prompt_tokens and token_ids not in seen:
                    seen.add(token_ids)
                    prompts.append(Prompt(prompt_id, token_ids))
                    self._reference_texts[prompt_id] = reference
                prompt_id += 1
        return prompts

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return encoded
