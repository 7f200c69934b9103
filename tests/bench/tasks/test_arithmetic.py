import numpy as np
import pytest

from bench.errors import UserError
from bench.tasks.arithmetic import (
    ArithmeticConfig,
    answer,
    build_tokenizer,
    decode,
    encode,
    problem_of,
    solution,
)
from bench.types import Prompt

pytest.importorskip("reasoning_gym")

SMALL = ArithmeticConfig(train_prompts=200, tuning_prompts=50, eval_prompts=50)


@pytest.fixture(scope="module")
def task():
    return SMALL.build()


@pytest.mark.parametrize(
    ("problem", "steps"),
    [
        ("5+8", "5+8=13"),
        ("5-8+3", "5-8=-3;-3+3=0"),
        ("55+98-93+77", "55+98=153;153-93=60;60+77=137"),
        ("0-9-4+6", "0-9=-9;-9-4=-13;-13+6=-7"),
    ],
)
def test_a_solution_works_from_left_to_right(problem, steps):
    assert solution(problem) == steps


def test_every_reference_ends_with_what_python_says(task):
    prompts = task.prompts("train")
    for prompt, reference in zip(prompts, task.references(prompts), strict=True):
        assert int(answer(reference)) == eval(problem_of(prompt))
        assert len(reference) <= SMALL.reference_tokens


@pytest.mark.parametrize(
    ("text", "found"),
    [("5+8=13", "13"), ("5-8=-3;-3+3=0", "0"), ("13", None), ("5+8=", ""), ("=7", "7")],
)
def test_the_answer_follows_the_last_equals_sign(text, found):
    assert answer(encode(text)) == found


def test_without_its_end_a_completion_has_no_answer():
    assert answer(encode("5+8=13")[:-1]) is None
    assert answer((*encode("5+8=13"), *encode("=14"))) == "13"  # what follows EOS does not count


def test_the_reward_is_one_for_the_right_answer_whatever_the_way():
    task = SMALL.build()
    prompt = Prompt(7, encode("5+8-3?")[:-1])
    completions = [encode(text) for text in ("5+8=13;13-3=10", "=10", "5+8=13;13-3=11", "=010")]
    rewards = task.gold_rewards([prompt] * 5, [*completions, completions[0][:-1]])
    assert rewards.tolist() == [1, 1, 0, 0, 0]
    assert task.outcomes(rewards, np.ones(5)).tolist() == [1, 1, 0, 0, 0]  # pass@1, no ties
    assert SMALL.win_rate_ceiling("eval", 50) == 1


def test_no_problem_is_in_two_splits_or_twice_in_one(task):
    of = {split: [problem_of(p) for p in task.prompts(split)] for split in
          ("train", "tuning", "eval")}  # fmt: skip
    of["sft"] = [problem_of(p) for p, _ in zip((p for p, _ in task.sft_pairs()), range(300))]  # noqa: B905
    assert [len(set(problems)) for split, problems in of.items() if split != "sft"] == [200, 50, 50]
    names = list(of)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            assert not set(of[first]) & set(of[second])


def test_splits_are_the_same_each_time_and_other_seeds_have_others(task):
    again = SMALL.build().prompts("eval")
    assert again == task.prompts("eval")
    other = ArithmeticConfig(eval_prompts=50, seed=1).build().prompts("eval")
    assert len({problem_of(p) for p in other} & {problem_of(p) for p in again}) < 5


def test_more_problems_than_there_are_is_one_line():
    few = ArithmeticConfig(least_terms=2, most_terms=2, most_digits=1, train_prompts=10**4)
    with pytest.raises(UserError, match=r"train_prompts: there are only .* allow more terms"):
        few.build().prompts("train")


def test_the_tokenizer_knows_each_character():
    tokenizer = build_tokenizer()
    assert tokenizer("12-3?")["input_ids"] == list(encode("12-3?")[:-1])
    assert decode(encode("12-3=9")) == "12-3=9"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"least_terms": 5}, "least_terms = 5: must be from 2 to 4"),
        ({"most_digits": 0}, "most_digits = 0: must be from 1 to 4"),
        ({"eval_prompts": 0}, "eval_prompts = 0: must be from 1 to 1000000"),
    ],
)
def test_impossible_problems_are_refused(params, says):
    with pytest.raises(UserError, match=says):
        ArithmeticConfig(**params)
