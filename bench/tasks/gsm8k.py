"""``gsm8k``: grade-school maths in words; a rule checks the answer. The paper's second domain.

Data, SFT model, prompt and answer pattern are those of the authors' branch ``dev``, by hub id or
from a hub directory (see ``bench.hub``). The reward is 1 if the first number after "#### " is the
data set's, else 0, finished or not; there is no reward model. The win rate is the share of right
answers (pass@1). Numbers are compared as text without commas.

Deviations: a full stop after the number does not count, while in the authors' code "72." is not
"72"; and padding is the unknown token, since theirs is EOS.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.errors import UserError
from bench.hub import load_pretrained, resolve_hub
from bench.tasks.base import Completion, Split, Task, TaskConfig
from bench.tasks.hub_data import TextTable
from bench.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DATASET, FOLDER = "openai/gsm8k", "main"
COLUMNS = ("question", "answer")
SFT_MODELS = {"1b": "realtreetune/rho-1b-sft-GSM8K"}  # by the policy's size
PROMPT = "[MATH_TASK] Problem:\n{}\n\nSolution:"
ANSWER = re.compile(r"#### (-?[0-9.,]+)")
FIRST_ID = {"train": 0, "test": 10**9}  # prompt id of a file split's first row


@dataclass(frozen=True, kw_only=True)
class Gsm8kConfig(TaskConfig):
    """Parameters of the task.

    Attributes:
        max_prompt_tokens: longer prompts are left out.
        max_completion_tokens: as many as the authors generate, in training and in evaluation.
        tuning_prompts: the last ones of the data set's train split.
    """

    name: ClassVar[str] = "gsm8k"
    implementation: ClassVar[str] = "bench.tasks.gsm8k:Gsm8k"
    rule_reward: ClassVar[bool] = True

    max_prompt_tokens: int = 512
    max_completion_tokens: int = 512
    tuning_prompts: int = 512

    def __post_init__(self) -> None:
        """Refuse numbers below 1.

        Raises:
            UserError: a number is out of range.
        """
        for name in ("max_prompt_tokens", "max_completion_tokens", "tuning_prompts"):
            if getattr(self, name) < 1:
                raise UserError(f"gsm8k parameter {name} = {getattr(self, name)}: must be >= 1")

    @property
    def reference_tokens(self) -> int:
        """What is enough for every solution of the data set, EOS included."""
        return self.max_completion_tokens

    def win_rate_ceiling(self, split: Split, prompts: int) -> float:
        """Return 1: every problem can be solved. The data need not be there."""
        del split, prompts
        return 1.0

    def released(self, model: str) -> tuple[str, None]:
        """Return where the SFT model of a policy size is.

        Raises:
            UserError: unknown size, or the hub directory in use lacks the model.
        """
        if model not in SFT_MODELS:
            raise UserError(f"gsm8k model {model!r}: allowed are {', '.join(SFT_MODELS)}")
        return resolve_hub(SFT_MODELS[model]), None

    def longest_prompt_tokens(self) -> int:
        """Return the limit: the data need not be there."""
        return self.max_prompt_tokens


class Gsm8k(Task):
    """The task on its real data; see ``bench.tasks.base.Task``.

    Split ``eval`` is the data set's ``test``, ``tuning`` the end of its ``train``. A prompt that
    occurs more than once is kept once, ``eval`` first.
    """

    def __init__(self, config: Gsm8kConfig) -> None:
        """Find all files and load the tokenizer; the data are read when first needed.

        Raises:
            UserError: a data set, a column or a model is missing, or the tokenizer does not fit.
        """
        from transformers import AutoTokenizer  # slow; what reads records needs no tokenizer

        self._config = config
        self._tables = {split: TextTable(DATASET, split, COLUMNS, FOLDER) for split in FIRST_ID}
        source = resolve_hub(SFT_MODELS["1b"], "tokenizer_config.json")
        self.tokenizer: PreTrainedTokenizerBase = load_pretrained(AutoTokenizer, source)
        if self.tokenizer.pad_token_id in (None, self.tokenizer.eos_token_id):
            self.tokenizer.pad_token = self.tokenizer.unk_token
        if self.tokenizer.pad_token_id in (None, self.tokenizer.eos_token_id):
            raise UserError(f"tokenizer of {source}: needs a padding or unknown token, not EOS")
        self._solutions: dict[int, str] = {}

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """Return the split's prompts, always in the same order."""
        return self._splits[split]

    def references(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Return the worked solution of each prompt of a split, EOS included."""
        texts = [self._solution(prompt) for prompt in prompts]
        encoded = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        return [(*tokens, self.tokenizer.eos_token_id) for tokens in encoded]

    def gold_rewards(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]
    ) -> NDArray[np.float64]:
        """Return 1 for each completion whose answer is right, else 0."""
        return np.array([
            float(answer(self._text(completion)) == answer(self._solution(prompt)))
            for prompt, completion in zip(prompts, completions, strict=True)
        ])  # fmt: skip

    def outcomes(
        self, gold: NDArray[np.float64], reference_gold: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return 1 for what is right and 0 for what is not: references are right by themselves."""
        del reference_gold
        return gold

    @cached_property
    def _splits(self) -> dict[Split, list[Prompt]]:
        seen: set[tuple[int, ...]] = set()
        test, train = self._read("test", seen), self._read("train", seen)
        tuning = self._config.tuning_prompts
        if len(train) <= tuning:
            raise UserError(
                f"gsm8k parameter tuning_prompts = {tuning}: must be below the {len(train)} "
                "prompts of split train"
            )
        return {"train": train[:-tuning], "tuning": train[-tuning:], "eval": test}

    def _read(self, file_split: str, seen: set[tuple[int, ...]]) -> list[Prompt]:
        """Return the prompts that are short enough and not in ``seen``; keeps their solutions."""
        table, prompts, row = self._tables[file_split], [], 0
        for questions, solutions in table.batches():
            # With what the tokenizer puts first, as the SFT model was trained.
            encoded = self.tokenizer([PROMPT.format(q) for q in questions])["input_ids"]
            for tokens, solution in zip(map(tuple, encoded), solutions, strict=True):
                if answer(solution) is None:
                    raise table.error(row, "answer has no '#### <number>'")
                if len(tokens) <= self._config.max_prompt_tokens and tokens not in seen:
                    seen.add(tokens)
                    prompts.append(Prompt(FIRST_ID[file_split] + row, tokens))
                    self._solutions[prompts[-1].prompt_id] = solution
                row += 1
        return prompts

    def _solution(self, prompt: Prompt) -> str:
        _ = self._splits
        return self._solutions[prompt.prompt_id]

    def _text(self, completion: Sequence[int]) -> str:
        """Return the text before EOS, or all of it."""
        tokens, eos = list(completion), self.tokenizer.eos_token_id
        kept = tokens[: tokens.index(eos)] if eos in tokens else tokens
        return str(self.tokenizer.decode(kept, clean_up_tokenization_spaces=False))


def answer(text: str) -> str | None:
    """Return the first number after "#### ", without commas and a full stop; None: there is none.

    Source: ``src/gsm8k_utils.py`` of the authors, after OpenAI's grade-school-math.
    """
    found = ANSWER.search(text)
    return found[1].replace(",", "").removesuffix(".") if found else None
