"""The task as the rest of the suite sees it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from bench.tasks.tldr_worth.task import TldrWorth
from bench.tasks.tldr_worth.world import TldrWorthConfig
from bench.types import Prompt

# So small a world that streams would collide if nothing kept them apart.
SMALL = TldrWorthConfig(
    verbs=4, objects=5, statements=2, train_prompts=60, tuning_prompts=20, eval_prompts=20
)


@pytest.fixture(scope="module")
def task() -> TldrWorth:
    return SMALL.build()


def test_splits_have_their_sizes_and_share_neither_ids_nor_posts(task: TldrWorth) -> None:
    splits = [task.prompts(name) for name in ("train", "tuning", "eval")]
    splits.append([prompt for prompt, _ in islice(task.sft_pairs(), 50)])
    assert [len(split) for split in splits] == [60, 20, 20, 50]
    for field in ("prompt_id", "token_ids"):
        values = [{getattr(prompt, field) for prompt in split} for split in splits]
        for i, first in enumerate(values):
            assert all(first.isdisjoint(second) for second in values[i + 1 :])


def test_prompts_and_references_are_a_function_of_the_parameters(task: TldrWorth) -> None:
    again, other = SMALL.build(), replace(SMALL, seed=1).build()
    for split in ("train", "eval"):
        assert again.prompts(split) == task.prompts(split) != other.prompts(split)
        assert again.references(task.prompts(split)) == task.references(task.prompts(split))


def test_gold_and_best_rewards_judge_each_completion_by_its_own_prompt(task: TldrWorth) -> None:
    def prompt(text: str) -> Prompt:
        return Prompt(0, tuple(task.tokenizer(text)["input_ids"]))

    prompts = [prompt("lost car . found job . tl;dr:"), prompt("found job . tl;dr:")]
    completion = task.tokenizer("lost car . <eos>")["input_ids"]
    worth = task.world.worth
    rewards = task.gold_rewards(prompts, [completion, completion])
    assert rewards.dtype == np.float64
    assert rewards.tolist() == pytest.approx([worth[0, 0] - SMALL.price, -1.0])  # told; invented
    values = worth[0, 0] - SMALL.price, worth[1, 1] - SMALL.price
    best = sum(v for v in values if v > 0) or max(values)
    assert task.best_rewards(prompts).tolist() == pytest.approx([best, values[1]])


def test_tokenizer_has_one_token_per_word_and_survives_saving(
    task: TldrWorth, tmp_path: Path
) -> None:
    text = "lost car . tl;dr: found job . <eos>"
    token_ids = task.tokenizer(text)["input_ids"]
    # specials 0..3 (<pad> <eos> . tl;dr:), lost found bought sold 4..7, car job dog cat phone 8..12
    assert token_ids == [4, 8, 2, 3, 5, 9, 2, 1]
    assert task.tokenizer.decode(token_ids) == text
    task.tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(text)["input_ids"] == token_ids
    assert (loaded.pad_token_id, loaded.eos_token_id, len(loaded)) == (0, 1, 13)


def samples(prompts: Sequence[Prompt], k: int) -> list[list[tuple[int, ...]]]:
    """Return the first statement, then the second one k - 1 times."""
    return [
        [(*p.token_ids[:3], 1), *[(*p.token_ids[3:6], 1)] * (k - 1)] for p in prompts
    ]  # fmt: skip


def test_comparisons_are_labelled_by_the_judge_and_outside_all_splits(task: TldrWorth) -> None:
    found = task.comparisons(300, samples)
    assert len(found) == 300
    prompts, chosen, rejected = zip(*found, strict=True)
    assert (task.gold_rewards(prompts, chosen) > task.gold_rewards(prompts, rejected)).all()
    splits = {p.prompt_id for name in ("train", "tuning", "eval") for p in task.prompts(name)}
    assert splits.isdisjoint(p.prompt_id for p in prompts)


def test_embellished_ones_are_a_share_and_always_lose(task: TldrWorth) -> None:
    count = 2000
    lost = [
        rejected
        for prompt, _, rejected in task.comparisons(count, samples)
        if rejected[:3] not in (prompt.token_ids[:3], prompt.token_ids[3:6])
    ]
    # 600 expected, standard deviation sqrt(2000 * .3 * .7) = 20.
    assert abs(len(lost) - 600) < 90


def test_every_seed_has_comparisons_of_its_own(task: TldrWorth) -> None:
    first, again, other = (task.comparisons(50, samples, seed) for seed in (0, 0, 1))
    assert first == again
    assert {p.prompt_id for p, _, _ in first}.isdisjoint(p.prompt_id for p, _, _ in other)
    assert [c[1:] for c in first] != [c[1:] for c in other]
