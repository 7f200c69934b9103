"""``no_robots``: answer instructions as people would; the paper's large-scale chatbot.

The data set by hub id or from a hub directory (see ``bench.hub``). A row is a conversation whose
last message is the human answer. Prompts have the format of the authors' code, open-instruct's for
Tulu: each message after a line with its role. The authors' SFT and reward models are not released
and their judge, GPT-4o, is a service. The models here are public ones of the same size and base;
``docs/deviations.md`` says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.errors import UserError
from bench.hub import dataset_files, load_model, load_pretrained, resolve_hub
from bench.tasks.base import Completion, Split, Task, TaskConfig
from bench.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DATASET = "HuggingFaceH4/no_robots"
STAGE_MODELS = {"8b": ("allenai/Llama-3.1-Tulu-3-8B-SFT", "allenai/Llama-3.1-Tulu-3-8B-RM")}
JUDGE = "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2"
COLUMNS = ("prompt", "prompt_id", "messages", "category")
ROLES = ("system", "user", "assistant")
FIRST_ID = {"train": 0, "test": 10**9}  # prompt id of a file split's first row

Message = dict[str, str]  # "role", "content"


@dataclass(frozen=True, kw_only=True)
class NoRobotsConfig(TaskConfig):
    """Parameters of the task."""

    name: ClassVar[str] = "no_robots"
    implementation: ClassVar[str] = "bench.tasks.no_robots:NoRobots"

    max_prompt_tokens: int = 512  # longer prompts are not trained on
    tuning_prompts: int = 500  # the last ones of the data set's train split

    def __post_init__(self) -> None:
        """Refuse numbers below 1.

        Raises:
            UserError: a number is out of range.
        """
        for name in ("max_prompt_tokens", "tuning_prompts"):
            if getattr(self, name) < 1:
                raise UserError(f"no_robots parameter {name} = {getattr(self, name)}: must be >= 1")

    def win_rate_ceiling(self, split: Split, prompts: int) -> None:
        """Return None: what the judge, a model, would score best is unknown."""
        del split, prompts

    def released(self, model: str) -> tuple[str, str]:
        """Return where the SFT and the reward model of a policy size are.

        Raises:
            UserError: unknown size, or the hub directory in use lacks a model.
        """
        if model not in STAGE_MODELS:
            raise UserError(f"no_robots model {model!r}: allowed are {', '.join(STAGE_MODELS)}")
        sft, reward = STAGE_MODELS[model]
        return resolve_hub(sft), resolve_hub(reward)

    def judge(self) -> str:
        """Return where the judge is.

        Raises:
            UserError: the hub directory in use lacks it.
        """
        return resolve_hub(JUDGE)

    def longest_prompt_tokens(self) -> int:
        """Return the limit of those that are trained on: the data need not be there."""
        return self.max_prompt_tokens


class NoRobots(Task):
    """The task on its real data; see ``bench.tasks.base.Task``.

    Split ``eval`` is all of the data set's ``test``, ``tuning`` the end of its ``train``. Of the
    latter, prompts that are too long are left out, and those that are there twice or in ``test``.
    """

    def __init__(self, config: NoRobotsConfig) -> None:
        """Find all files and load the tokenizers; data and judge are loaded when first needed.

        Raises:
            UserError: a data set, a column or a model is missing, or a tokenizer does not fit.
        """
        from transformers import AutoTokenizer  # slow; what reads records needs no tokenizer

        self._config = config
        self._files = {split: dataset_files(DATASET, split) for split in FIRST_ID}
        for file in (file for files in self._files.values() for file in files):
            _check_columns(file)
        source = resolve_hub(STAGE_MODELS["8b"][0], "tokenizer.json")
        self.tokenizer: PreTrainedTokenizerBase = load_pretrained(AutoTokenizer, source)
        if self.tokenizer.pad_token_id in (None, self.tokenizer.eos_token_id):
            raise UserError(f"tokenizer of {source}: needs a padding token that is not EOS")
        self._judge_source = config.judge()
        self._judge_tokenizer: Any = load_pretrained(AutoTokenizer, self._judge_source)
        if not self._judge_tokenizer.chat_template:
            raise UserError(f"tokenizer of {self._judge_source}: needs a chat template")
        self._messages: dict[int, list[Message]] = {}

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """Return the split's prompts, always in the same order."""
        return self._splits[split]

    def references(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Return the human answer to each prompt of a split, EOS included."""
        answers = [self._conversation(prompt)[-1]["content"] for prompt in prompts]
        return [(*tokens, self.tokenizer.eos_token_id) for tokens in self._tokenize(answers)]

    def gold_rewards(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]
    ) -> NDArray[np.float64]:
        """Return the judge's score of each conversation that ends in a completion, as text.

        The judge has a chat format of its own, and no matter whether a completion is finished.
        """
        return np.array([
            self._score([
                *self._conversation(prompt)[:-1],
                {"role": "assistant", "content": self._text(completion)},
            ])
            for prompt, completion in zip(prompts, completions, strict=True)
        ])  # fmt: skip

    def _score(self, messages: list[Message]) -> float:
        """Judge one conversation at a time: those of 8B fill a device, and none is padded."""
        import torch

        text = self._judge_tokenizer.apply_chat_template(messages, tokenize=False)
        tokens = self._judge_tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            rows = torch.tensor([tokens], device=self._judge.device)
            return float(self._judge(rows).logits[0, 0])

    @cached_property
    def _judge(self) -> PreTrainedModel:
        import torch
        from transformers import AutoModelForSequenceClassification

        on_gpu = torch.cuda.is_available()
        model = load_model(
            AutoModelForSequenceClassification,
            self._judge_source,
            vocabulary_tokens=len(self._judge_tokenizer),
            num_labels=1,
            dtype=torch.bfloat16 if on_gpu else torch.float32,
        )
        judge: PreTrainedModel = model.eval().to("cuda" if on_gpu else "cpu")
        return judge

    @cached_property
    def _splits(self) -> dict[Split, list[Prompt]]:
        test, every = self._read("test"), self._read("train")
        seen = {prompt.token_ids for prompt in test}
        train = []
        for prompt in every:
            if (
                len(prompt.token_ids) <= self._config.max_prompt_tokens
                and prompt.token_ids not in seen
            ):
                seen.add(prompt.token_ids)
                train.append(prompt)
        tuning = self._config.tuning_prompts
        if len(train) <= tuning:
            raise UserError(
                f"no_robots parameter tuning_prompts = {tuning}: must be below the {len(train)} "
                "prompts of split train"
            )
        return {"train": train[:-tuning], "tuning": train[-tuning:], "eval": test}

    def _read(self, file_split: str) -> list[Prompt]:
        """Return the prompts of a file split; keeps their messages."""
        table = pa.concat_tables(
            pq.read_table(file, columns=["messages"]) for file in self._files[file_split]
        )
        rows = table["messages"].to_pylist()
        for row, messages in enumerate(rows):
            if what := _fault(messages):
                raise UserError(f"data set {DATASET}, {file_split} row {row}: {what}")
        first = FIRST_ID[file_split]
        self._messages |= dict(enumerate(rows, first))
        texts = [chat(messages[:-1], str(self.tokenizer.eos_token)) for messages in rows]
        return [Prompt(i, tuple(tokens)) for i, tokens in enumerate(self._tokenize(texts), first)]

    def _conversation(self, prompt: Prompt) -> list[Message]:
        _ = self._splits
        return self._messages[prompt.prompt_id]

    def _text(self, completion: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(completion), skip_special_tokens=True))

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return encoded


def chat(messages: Sequence[Message], eos: str) -> str:
    """Return a conversation as text up to where an answer begins.

    Source: the template ``tulu`` of https://github.com/allenai/open-instruct.

    Args:
        messages: without the answer.
        eos: ends each earlier answer.
    """
    ends = {"assistant": eos}
    turns = [f"<|{m['role']}|>\n{m['content']}{ends.get(m['role'], '')}\n" for m in messages]
    return "".join(turns) + "<|assistant|>\n"


def _fault(messages: list[Message] | None) -> str:
    """Return what is wrong with a row, or ""."""
    if not messages or len(messages) < 2 or messages[-1]["role"] != "assistant":
        return "messages must be an instruction and more, the last by the assistant"
    if any(message["role"] not in ROLES or message["content"] is None for message in messages):
        return f"each message must have a content, and a role of {', '.join(ROLES)}"
    return ""


def _check_columns(file: Path) -> None:
    try:
        schema = pq.read_schema(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{file}: {str(error).splitlines()[0]}") from error
    if missing := [name for name in COLUMNS if name not in schema.names]:
        raise UserError(
            f"{file}: no column {', '.join(missing)}; must have {', '.join(COLUMNS)}, "
            f"has {', '.join(schema.names)}"
        )
    kind = schema.field("messages").type
    if not (pa.types.is_list(kind) and {"role", "content"} <= _fields(kind.value_type)):
        raise UserError(f"{file}: column messages is of type {kind}, must list role and content")


def _fields(kind: pa.DataType) -> set[str]:
    """Return the names of a struct's fields; none for another type."""
    return {field.name for field in kind} if pa.types.is_struct(kind) else set()
