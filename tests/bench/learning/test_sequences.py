import torch

from bench.learning.sequences import Sequences
from bench.types import Rollouts

# Prompts, by row: (9), (5, 6), (4, 9), (5, 6), (9); PAD is 0, and also a token of other rows.
PROMPTS = [[0, 9], [5, 6], [4, 9], [5, 6], [7, 9]]
REAL = [[0, 1], [1, 1], [1, 1], [1, 1], [0, 1]]  # what is masked in the last row is a 7
COMPLETIONS = [[1, 2, 3], [4, 5, 0], [6, 0, 0], [7, 8, 9], [2, 0, 0]]


def sequences():
    completions = torch.tensor(COMPLETIONS)
    return Sequences.of(
        Rollouts(
            policy_version=0,
            prompts=(),
            completions_per_prompt=1,
            prompt_tokens=torch.tensor(PROMPTS),
            prompt_mask=torch.tensor(REAL).bool(),
            completion_tokens=completions,
            completion_mask=completions > 0,
            logprobs=torch.zeros(5, 3),
            finished=torch.ones(5, dtype=torch.bool),
        )
    )


def test_equal_prompts_are_one_whatever_is_masked_and_in_lexicographic_order():
    found = sequences()
    assert found.prompts.tolist() == [[-1, 9], [4, 9], [5, 6]]
    assert found.prompt_of_row.tolist() == [0, 2, 1, 2, 0]
    assert found.prompt_length == 2
    assert found.tokens[3].tolist() == [5, 6, 7, 8, 9]
    assert found.mask[4].tolist() == [False, True, True, False, False]


def test_a_selection_has_its_own_prompts_in_the_same_order():
    chosen = sequences().select(torch.tensor([3, 0, 1]))
    assert chosen.tokens.tolist() == [[5, 6, 7, 8, 9], [0, 9, 1, 2, 3], [5, 6, 4, 5, 0]]
    assert chosen.prompts.tolist() == [[-1, 9], [5, 6]]
    assert chosen.prompt_of_row.tolist() == [1, 0, 1]
    again = chosen.select(torch.tensor([2, 0]))
    assert again.prompts.tolist() == [[5, 6]]
    assert again.prompt_of_row.tolist() == [0, 0]
    assert again.tokens.tolist() == [[5, 6, 4, 5, 0], [5, 6, 7, 8, 9]]


def test_a_selection_is_what_its_rows_alone_would_give():
    prompts = torch.randint(0, 3, (40, 3), generator=torch.Generator().manual_seed(0))
    real = torch.arange(3) >= torch.arange(40)[:, None] % 3  # 0 to 2 tokens are padding
    every = torch.ones(40, 1, dtype=torch.bool)

    def of(rows):
        return Sequences.of(
            Rollouts(
                0, (), 1, prompts[rows], real[rows], prompts[rows, :1], every[rows],
                torch.zeros(len(rows), 1), every[rows, 0],
            )
        )  # fmt: skip

    rows = torch.randperm(40, generator=torch.Generator().manual_seed(1))[:17]
    found, expected = of(torch.arange(40)).select(rows), of(rows)
    assert len(expected.prompts) < 17  # some are shared
    for name in ("tokens", "mask", "prompts", "prompt_of_row"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_split_gives_consecutive_parts():
    parts = sequences().split(2)
    assert [part.tokens[:, 2].tolist() for part in parts] == [[1, 4], [6, 7], [2]]
    assert [part.prompts.tolist() for part in parts] == [
        [[-1, 9], [5, 6]], [[4, 9], [5, 6]], [[-1, 9]],
    ]  # fmt: skip
    (whole,) = sequences().split(None)
    assert whole.prompt_of_row.tolist() == [0, 2, 1, 2, 0]
