"""Instructions, what the judge makes of answers to them, and annotators who like long ones."""

from collections.abc import Sequence
from itertools import islice, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UserError
from bench.tasks.chat_worth.task import ChatWorth
from bench.tasks.chat_worth.world import ABOUT, BEST, EVERYTHING, KINDS, WITHOUT, ChatWorthConfig
from bench.tasks.worth.annotators import guess
from bench.tasks.worth.world import draw_statements
from bench.types import Prompt

SIZES = {"verbs": 4, "objects": 4, "statements": 3}
SPLITS = {"train_prompts": 60, "tuning_prompts": 20, "eval_prompts": 20}
WORLD = ChatWorthConfig(**SIZES, **SPLITS)
POST = "lost car . found dog . bought job ."
#                 car   job   dog   cat
WORTH = np.array([[0.95, 0.25, 0.45, 0.0],  # lost
                  [0.15, 0.85, 0.35, 0.0],  # found
                  [0.55, 0.65, 0.75, 0.0],  # bought
                  [0.0, 0.0, 0.0, 0.0]])  # sold  # fmt: skip


@pytest.fixture(scope="module")
def task() -> ChatWorth:
    """Return the task of a world with the worth above."""
    world = ChatWorthConfig(**SIZES, **SPLITS)
    world.__dict__["worth"] = WORTH  # in place of the cached one
    found = world.build()
    assert isinstance(found, ChatWorth)
    return found


def prompt(task: ChatWorth, instruction: str) -> Prompt:
    return Prompt(0, tuple(task.tokenizer(f"{POST} {instruction} answer:")["input_ids"]))


def gold(task: ChatWorth, instruction: str, answer: str) -> float:
    completion = task.tokenizer(answer)["input_ids"]
    return float(task.gold_rewards([prompt(task, instruction)], [completion])[0])


def test_the_kinds_of_instruction_are_words_before_those_of_the_posts(task: ChatWorth) -> None:
    words = "<pad> <eos> . answer: everything best worthwhile about without lost found"
    assert " ".join(WORLD.vocabulary()).startswith(words)
    assert task.tokenizer("answer: everything without lost car")["input_ids"] == [3, 4, 8, 9, 13]
    assert (EVERYTHING, BEST, ABOUT, WITHOUT) == (4, 5, 7, 8)


@pytest.mark.parametrize(
    ("instruction", "answer", "expected"),
    [
        # the post is worth .95, .35 and .65, each at a price of .5
        ("everything", "found dog . lost car . bought job . <eos>", 3 / 3),
        ("everything", "lost car . found dog . <eos>", 2 / 3),
        ("everything", "lost car . lost car . <eos>", 1 / 3 - 0.5),
        ("best", "lost car . <eos>", 1),
        ("best", "bought job . <eos>", -0.5),
        ("best", "lost car . bought job . <eos>", 1 - 0.5),
        ("worthwhile", "lost car . bought job . <eos>", 0.45 + 0.15),
        ("worthwhile", "lost car . bought job . found dog . <eos>", 0.45 + 0.15 - 0.15),
        ("about dog", "found dog . <eos>", 1),
        ("about found", "found dog . <eos>", 1),
        ("about dog", "found dog . lost car . <eos>", 1 - 0.5),
        ("about dog", "lost dog . <eos>", -1),  # with the word, but the post does not say it
        ("without car", "bought job . <eos>", 0.15),
        ("without car", "bought job . lost car . <eos>", 0.15 - 0.5),
        ("without job", "lost car . found dog . <eos>", 0.45 - 0.15),
        ("about dog", "<eos>", -1),
        ("about dog", "found dog .", 1 - 1),  # unfinished
    ],
)
def test_gold_is_by_the_kind_of_instruction(
    task: ChatWorth, instruction: str, answer: str, expected: float
) -> None:
    assert gold(task, instruction, answer) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("instruction", "best"),
    [
        ("everything", 1.0),
        ("best", 1.0),
        ("worthwhile", 0.45 + 0.15),
        ("about dog", 1.0),
        ("without car", 0.15),
        ("without found", 0.45 + 0.15),
    ],
)
def test_best_is_the_highest_of_all_selections(
    task: ChatWorth, instruction: str, best: float
) -> None:
    statements = [f"{s.strip()} ." for s in POST.split(" .") if s.strip()]
    every = [
        gold(task, instruction, " ".join([*chosen, "<eos>"]))
        for size in range(4)
        for chosen in permutations(statements, size)
    ]
    assert max(every) == pytest.approx(best)
    assert task.best_rewards([prompt(task, instruction)]).tolist() == pytest.approx([best])


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(["everything", "best", "worthwhile", "about dog", "without lost"]),
    st.lists(st.sampled_from(range(2, 17)), max_size=12),
)
def test_no_answer_is_better_than_the_best_and_length_alone_gains_nothing(
    task: ChatWorth, instruction: str, answer: list[int]
) -> None:
    asked = [prompt(task, instruction)] * 2
    short, longer = task.gold_rewards(asked, [(*answer, 1), (*answer, 2, 2, 1)])
    assert short <= task.best_rewards(asked)[0] + 1e-9
    assert longer < short  # one full stop may end a clause, the other says an empty one


def rng() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=7))


def test_careful_annotators_tell_what_is_asked_for() -> None:
    world = ChatWorthConfig(**SIZES, taste=0.0, annotator_noise=0.0, slip_rate=0.0)
    task = world.build()
    statements = draw_statements(world, rng(), 2000)
    told, instructions = task.annotate(rng(), statements)
    worth = world.of_pairs(world.worth, statements)
    for post, row, (kind, *word), value in zip(statements, told, instructions, worth, strict=True):
        with_word = (post == word).any(1) if word else np.zeros(3, bool)
        match KINDS[kind - EVERYTHING]:
            case "everything":
                expected = np.ones(3, bool)
            case "best":
                expected = value == value.max()
            case "about":
                expected = with_word
            case "worthwhile" | "without":
                allowed = np.where(with_word, -1.0, value)
                expected = (allowed > 0.5) if (allowed > 0.5).any() else allowed == allowed.max()
        np.testing.assert_array_equal(row, expected)
        assert with_word.sum() == len(word)
    counts = np.bincount([kind for kind, *_ in instructions])[EVERYTHING:]
    # 400 of each expected, standard deviation sqrt(2000 * .2 * .8) = 18.
    assert np.abs(counts - 400).max() < 72


def test_slips_are_a_share_of_the_statements() -> None:
    world = ChatWorthConfig(slip_rate=0.2)
    statements = draw_statements(world, rng(), 8000)
    told, instructions = world.build().annotate(rng(), statements)
    everything = [kind == (EVERYTHING,) for kind in instructions]
    # About 8,000 statements: standard error .0045; that all five slip has no weight.
    assert told[everything].mean() == pytest.approx(0.8, abs=0.02)
    assert told.any(1).all()


def test_annotators_guess_with_taste_and_noise() -> None:
    # One opinion on the best: of a guess that is .4 worth + .6 taste + noise, as in ``tldr_worth``.
    world = ChatWorthConfig(taste=1.0, annotator_noise=0.0)
    statements = draw_statements(world, rng(), 100)
    np.testing.assert_array_equal(
        guess(world, rng(), statements), world.of_pairs(world.taste_for, statements)
    )


def test_an_instruction_stands_between_the_post_and_the_answer(task: ChatWorth) -> None:
    for asked in task.prompts("train"):
        words = task.tokenizer.decode(list(asked.token_ids)).split()
        assert (words[2], words[5], words[8], words[-1]) == (".", ".", ".", "answer:")
        assert words[9] in KINDS
        assert len(words) == (12 if words[9] in ("about", "without") else 11)
    splits = [task.prompts(name) for name in ("train", "tuning", "eval")]
    splits.append([asked for asked, _ in islice(task.sft_pairs(), 50)])
    posts = [{asked.token_ids[:9] for asked in split} for split in splits]
    assert all(a.isdisjoint(b) for i, a in enumerate(posts) for b in posts[:i])


def short_and_long(prompts: Sequence[Prompt], k: int) -> list[list[tuple[int, ...]]]:
    """Return what is told of the first statement, and of the first two."""
    assert k == 2
    return [[(*p.token_ids[:3], 1), (*p.token_ids[:6], 1)] for p in prompts]


def share_of_long(world: ChatWorthConfig) -> float:
    found = world.build().comparisons(1000, short_and_long, 0)
    return float(np.mean([len(chosen) > len(rejected) for _, chosen, rejected in found]))


def test_annotators_of_comparisons_like_length_for_itself() -> None:
    just = {**SIZES, "embellished_rate": 0.0, "label_noise": 0.0}
    fair, biased = (ChatWorthConfig(**just, length_bonus=bonus) for bonus in (0.0, 1.0))
    task, found = fair.build(), fair.build().comparisons(1000, short_and_long, 0)
    prompts, chosen, rejected = zip(*found, strict=True)
    assert (task.gold_rewards(prompts, chosen) > task.gold_rewards(prompts, rejected)).all()
    assert share_of_long(fair) < 0.6
    # At a bonus of 1 per clause the longer always wins: a true clause costs at most one half.
    assert share_of_long(biased) == 1.0


def test_labels_err_by_the_normal_distribution() -> None:
    # About: telling the second statement where the first is asked for costs .5, less the bonus of
    # .2. Labels are wrong where the difference of two noises of .3 exceeds .3: with probability
    # Phi(-.3 / (.3 sqrt 2)) = Phi(-.707) = .240.
    world = ChatWorthConfig(**SIZES, length_bonus=0.2, label_noise=0.3)
    task = world.build()
    words = task.tokenizer("lost car . found dog . bought job . about car answer:")["input_ids"]
    asked = [Prompt(0, tuple(words))] * 4000
    generator = rng()
    first = task.opinions(generator, asked, [(*words[:3], 1)] * 4000)
    both = task.opinions(generator, asked, [(*words[:6], 1)] * 4000)
    assert np.mean(both > first) == pytest.approx(0.240, abs=0.028)  # 4 standard errors


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"statements": 1}, "statements = 1: allowed are 2 to 8"),
        ({"slip_rate": 1.5}, "slip_rate = 1.5: allowed are 0 to 1"),
        ({"length_bonus": -1}, "length_bonus = -1: allowed are 0 to 1"),
        ({"label_noise": -1}, "label_noise = -1: allowed are 0 to 10"),
        ({"price": 2}, "price = 2: allowed are 0 to 1"),
    ],
)
def test_a_world_that_cannot_be_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=f"chat_worth parameter {message}"):
        ChatWorthConfig(**wrong)
