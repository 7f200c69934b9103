"""The task as the rest of the suite sees it."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from bench.tasks.tldr_tiny import task as module
from bench.tasks.tldr_tiny.task import TldrTiny
from bench.tasks.tldr_tiny.world import TldrTinyConfig
from bench.types import Prompt

# So small a world (a few thousand posts) that streams would collide if nothing kept them apart.
SMALL = TldrTinyConfig(
    subjects=1, verbs=3, objects=3, statements=2, max_own=1, max_clauses=2,
    train_prompts=400, tuning_prompts=100, eval_prompts=100,
)  # fmt: skip


@pytest.fixture(scope="module")
def task() -> TldrTiny:
    return SMALL.build()


def test_splits_have_their_sizes_and_share_neither_ids_nor_posts(task: TldrTiny) -> None:
    splits = [task.prompts(name) for name in ("train", "tuning", "eval")]
    splits.append([prompt for prompt, _ in islice(task.sft_pairs(), 200)])
    assert [len(split) for split in splits] == [400, 100, 100, 200]
    for field in ("prompt_id", "token_ids"):
        values = [{getattr(prompt, field) for prompt in split} for split in splits]
        assert len(set.union(*values)) == sum(map(len, values))


def test_prompts_and_references_are_a_function_of_the_parameters(task: TldrTiny) -> None:
    again, other = SMALL.build(), replace(SMALL, seed=1).build()
    for split in ("train", "eval"):
        assert again.prompts(split) == task.prompts(split) != other.prompts(split)
        assert again.references(task.prompts(split)) == task.references(task.prompts(split))


def test_a_larger_split_begins_with_the_smaller_one(task: TldrTiny) -> None:
    larger = replace(SMALL, train_prompts=500).build()
    assert larger.prompts("train")[:400] == task.prompts("train")


def test_generation_leaves_the_global_generator_alone() -> None:
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    SMALL.build()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_references_answer_the_prompts_in_the_order_asked(task: TldrTiny) -> None:
    prompts = task.prompts("tuning")
    references = task.references(prompts)
    assert task.references(prompts[::-1]) == references[::-1]
    assert all(reference[-1] == task.tokenizer.eos_token_id for reference in references)


def test_gold_rewards_judge_each_completion_by_its_own_prompt(task: TldrTiny) -> None:
    def prompt(text: str) -> Prompt:
        return Prompt(0, tuple(task.tokenizer(text)["input_ids"]))

    prompts = [prompt("i lost car . boss found job . tl;dr:"), prompt("i found job . tl;dr:")]
    completion = task.tokenizer("i lost car . <eos>")["input_ids"]
    rewards = task.gold_rewards(prompts, [completion, completion])
    assert rewards.dtype == np.float64
    assert rewards.tolist() == [1.0, -0.5]  # covered; invented


def test_tokenizer_has_one_token_per_word_and_padding_is_not_eos(task: TldrTiny) -> None:
    tokenizer = task.tokenizer
    text = "i lost car . tl;dr: boss found job . <eos>"
    token_ids = tokenizer(text)["input_ids"]
    # specials 0..4 (<pad> <eos> . tl;dr: i), boss 5, lost found bought 6..8, car job dog 9..11
    assert token_ids == [4, 6, 9, 2, 3, 5, 7, 10, 2, 1]
    assert tokenizer.decode(token_ids) == text
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer)) == (0, 1, 12)


def test_tokenizer_survives_saving(task: TldrTiny, tmp_path: Path) -> None:
    task.tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "boss lost car . <eos> <pad>"
    assert loaded(text)["input_ids"] == task.tokenizer(text)["input_ids"] == [5, 6, 9, 2, 1, 0]
    assert (loaded.pad_token_id, loaded.eos_token_id) == (0, 1)


def fake_samples(prompts: Sequence[Prompt], k: int) -> list[list[tuple[int, ...]]]:
    """Return the empty summary first, then the first statement of the post k - 1 times."""
    return [[(1,), *[(*prompt.token_ids[:4], 1)] * (k - 1)] for prompt in prompts]


def test_comparisons_are_labelled_by_the_judge_without_ties(task: TldrTiny) -> None:
    found = task.comparisons(300, fake_samples, 0)
    assert len(found) == 300
    prompts, chosen, rejected = zip(*found, strict=True)
    assert (task.gold_rewards(prompts, chosen) > task.gold_rewards(prompts, rejected)).all()
    # Of a first statement that is own the sample covers 1, else the empty summary is better.
    own_first = {c[0] for p, c, r in found if r == (1,) and len(c) == 5}
    other_first = {p.token_ids[0] for p, c, _ in found if c == (1,) and len(_) == 5}
    assert own_first == {4}
    assert 5 in other_first
    splits = {p.prompt_id for name in ("train", "tuning", "eval") for p in task.prompts(name)}
    assert splits.isdisjoint(p.prompt_id for p in prompts)


def test_comparisons_are_half_samples_half_perturbed_references(task: TldrTiny) -> None:
    asked: list[int] = []

    def sample(prompts: Sequence[Prompt], k: int) -> list[list[tuple[int, ...]]]:
        asked.append(len(prompts))
        assert k == 2
        return fake_samples(prompts, k)

    task.comparisons(100, sample, 0)
    assert set(asked) == {50}


def test_comparisons_of_seed_0_are_those_the_recorded_reward_models_learned_from(
    task: TldrTiny,
) -> None:
    found = task.comparisons(300, fake_samples, 0)
    # Computed with the code that drew the recorded reward models' comparisons.
    assert hashlib.sha256(repr(found).encode()).hexdigest()[:12] == "6080e7ccb59f"


def test_another_seed_draws_other_comparisons_and_they_are_in_no_split_either(
    task: TldrTiny,
) -> None:
    first, other = (task.comparisons(300, fake_samples, seed) for seed in (0, 7))
    assert task.comparisons(300, fake_samples, 7) == other
    ids, other_ids = ({prompt.prompt_id for prompt, *_ in one} for one in (first, other))
    assert ids.isdisjoint(other_ids)
    assert [p.token_ids for p, *_ in first] != [p.token_ids for p, *_ in other]
    splits = [task.prompts(name) for name in ("train", "tuning", "eval")]
    posts = {prompt.token_ids for split in splits for prompt in split}
    assert posts.isdisjoint(prompt.token_ids for prompt, *_ in other)


def test_another_seed_perturbs_the_same_references_otherwise(
    task: TldrTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = module.annotated_posts
    monkeypatch.setattr(module, "annotated_posts", lambda world, name, _: posts(world, name))
    first, other = (task.comparisons(300, fake_samples, seed) for seed in (0, 7))
    assert [p.token_ids for p, *_ in first[:20]] == [p.token_ids for p, *_ in other[:20]]
    assert [rejected for *_, rejected in first] != [rejected for *_, rejected in other]
