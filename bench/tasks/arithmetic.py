"""``arithmetic``: add and subtract step by step; a rule checks the result. GSM8K for a laptop.

Problems are those of reasoning-gym's ``chain_sum``. The reference works from left to right, a step
at a time::

    problem     55+98-93+77
    reference   55+98=153;153-93=60;60+77=137

What follows the last "=" of a finished completion is its answer. The reward is 1 if the answer is
right, else 0, as in the paper's experiment on GSM8K; there is no reward model. The win rate is the
share of right answers (pass@1).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from importlib.util import find_spec
from itertools import count, islice
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split as SplitText

from bench.errors import UserError
from bench.tasks.base import Completion, Split, Task, TaskConfig
from bench.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, EOS = "<pad>", "<eos>"
CHARACTERS = "0123456789+-=;?"
VOCABULARY = {token: i for i, token in enumerate((PAD, EOS, *CHARACTERS))}
STREAMS = ("train", "tuning", "eval", "sft")  # a problem's text decides the only one it is in
PROBLEMS_PER_STREAM = 10**9
CHUNK = 4096  # problems drawn at a time


@dataclass(frozen=True, kw_only=True)
class ArithmeticConfig(TaskConfig):
    """The problems.

    Attributes:
        least_terms: of a sum.
        most_terms: of a sum.
        most_digits: of a term; one digit is the least.
        train_prompts: prompts of split ``train``.
        tuning_prompts: prompts of split ``tuning``.
        eval_prompts: prompts of split ``eval``.
        seed: of the problems.
    """

    name: ClassVar[str] = "arithmetic"
    implementation: ClassVar[str] = "bench.tasks.arithmetic:Arithmetic"
    rule_reward: ClassVar[bool] = True

    least_terms: int = 3
    most_terms: int = 4
    most_digits: int = 2
    train_prompts: int = 16384
    tuning_prompts: int = 1024
    eval_prompts: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse problems that there are not.

        Raises:
            UserError: a number is out of range.
        """
        limits = {
            "least_terms": (2, self.most_terms),
            "most_terms": (2, 6),
            "most_digits": (1, 4),
            "seed": (0, 2**31 - 1),
        }
        for field in fields(self):
            least, most = limits.get(field.name, (1, 10**6))
            value = getattr(self, field.name)
            if not least <= value <= most:
                raise UserError(
                    f"arithmetic parameter {field.name} = {value}: must be from {least} to {most}"
                )

    def win_rate_ceiling(self, split: Split, prompts: int) -> float:
        """Return 1: every problem can be solved."""
        del split, prompts
        return 1.0

    def lacks(self) -> str:
        """Return how to get reasoning-gym, where it is not installed."""
        there = find_spec("reasoning_gym") is not None
        return "" if there else 'needs reasoning-gym: pip install -e ".[arithmetic]"'

    @property
    def reference_tokens(self) -> int:
        """The most tokens of a solution: a sum may have a sign and a digit more than a term."""
        step = 2 * (self.most_digits + 2) + self.most_digits + len("+=;")
        return (self.most_terms - 1) * step  # EOS takes the place of the last ";"


class Arithmetic(Task):
    """The task; see ``bench.tasks.base.Task``."""

    def __init__(self, config: ArithmeticConfig) -> None:
        """Import reasoning-gym; problems are drawn when they are first needed.

        Raises:
            UserError: reasoning-gym is not installed.
        """
        if lacking := config.lacks():
            raise UserError(f"task arithmetic: {lacking}")
        import reasoning_gym  # an extra

        self._config = config
        self._chain_sum = partial(reasoning_gym.create_dataset, "chain_sum")
        self.tokenizer: PreTrainedTokenizerBase = build_tokenizer()
        self._splits: dict[Split, list[Prompt]] = {}
        self._problems: dict[int, str] = {}

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """Return the split's problems, always in the same order, none twice."""
        if split not in self._splits:
            size: int = getattr(self._config, f"{split}_prompts")
            drawn = list(islice(self._stream(split), size))
            self._splits[split] = [prompt for prompt, _ in drawn]
            self._problems |= {prompt.prompt_id: problem for prompt, problem in drawn}
        return self._splits[split]

    def references(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Return the worked solution of each problem, EOS included."""
        return [encode(solution(problem_of(prompt))) for prompt in prompts]

    def gold_rewards(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]
    ) -> NDArray[np.float64]:
        """Return 1 for each finished completion whose answer is right, else 0."""
        return np.array([
            float(answer(completion) == solution(problem_of(prompt)).rpartition("=")[2])
            for prompt, completion in zip(prompts, completions, strict=True)
        ])  # fmt: skip

    def outcomes(
        self, gold: NDArray[np.float64], reference_gold: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return 1 for what is right and 0 for what is not: references are right by themselves."""
        del reference_gold
        return gold

    def sft_pairs(self) -> Iterator[tuple[Prompt, Completion]]:
        """Yield problems and their worked solutions, endlessly; none of them is in a split."""
        for prompt, problem in self._stream("sft"):
            yield prompt, encode(solution(problem))

    def _stream(self, name: str) -> Iterator[tuple[Prompt, str]]:
        """Yield the problems of a stream; ``sft`` may have one more than once, splits may not.

        Raises:
            UserError: the splits ask for more problems than there are.
        """
        config, at = self._config, STREAMS.index(name)
        seen: set[str] = set()
        prompt_id = at * PROBLEMS_PER_STREAM
        for chunk in count():
            problems = self._chain_sum(
                # Problem i of a seed is that of seed + i, so chunks must not overlap.
                seed=(config.seed * len(STREAMS) + at) * PROBLEMS_PER_STREAM + chunk * CHUNK,
                size=CHUNK,
                min_terms=config.least_terms,
                max_terms=config.most_terms,
                min_digits=1,
                max_digits=config.most_digits,
            )
            before = prompt_id
            for entry in problems:
                problem = entry["metadata"]["expression"].replace(" ", "")
                if _pool(problem) != at or problem in seen:
                    continue
                if name != "sft":
                    seen.add(problem)
                yield Prompt(prompt_id, encode(f"{problem}?")[:-1]), problem
                prompt_id += 1
            if prompt_id == before:
                raise UserError(
                    f"arithmetic parameter {name}_prompts: there are only "
                    f"{before - at * PROBLEMS_PER_STREAM} different problems for it; allow more "
                    "terms or digits"
                )


def solution(problem: str) -> str:
    """Return the worked solution of a problem: "5+8-3" is "5+8=13;13-3=10"."""
    first, *signed = problem.replace("-", " -").replace("+", " +").split()
    total, steps = int(first), []
    for term in signed:
        after = total + int(term)
        steps.append(f"{total}{term}={after}")
        total = after
    return ";".join(steps)


def answer(completion: Sequence[int]) -> str | None:
    """Return what follows the last "=" of a completion, or None if there is none, or no EOS."""
    tokens = list(completion)
    if VOCABULARY[EOS] not in tokens:
        return None
    text = decode(tokens[: tokens.index(VOCABULARY[EOS])])
    return text.rpartition("=")[2] if "=" in text else None


def problem_of(prompt: Prompt) -> str:
    """Return the text of a problem, without its question mark."""
    return decode(prompt.token_ids).removesuffix("?")


def encode(text: str) -> Completion:
    """Return the token ids of a text, a token per character, and EOS."""
    return (*(VOCABULARY[character] for character in text), VOCABULARY[EOS])


def decode(tokens: Sequence[int]) -> str:
    """Return the text of token ids; padding and EOS have none."""
    return "".join(CHARACTERS[token - 2] for token in tokens if token >= 2)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per character; padding is not EOS."""
    from transformers import PreTrainedTokenizerFast  # slow; what reads records needs no tokenizer

    tokenizer = Tokenizer(WordLevel(VOCABULARY))
    tokenizer.pre_tokenizer = SplitText(Regex("."), "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        clean_up_tokenization_spaces=False,
    )


def _pool(problem: str) -> int:
    return zlib.crc32(problem.encode()) % len(STREAMS)
