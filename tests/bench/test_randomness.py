import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.errors import UserError
from bench.randomness import PromptStream, sample_seeds, uniforms
from bench.types import Prompt

PROMPTS = [Prompt(i, (i,)) for i in range(10)]


def test_sample_seeds_are_keyed_by_prompt_not_by_position():
    forward = sample_seeds(3, 7, PROMPTS[:4], 2)
    backward = sample_seeds(3, 7, PROMPTS[3::-1], 2)
    assert forward == [s for pair in range(3, -1, -1) for s in backward[2 * pair : 2 * pair + 2]]


@given(st.integers(0, 2**31), st.integers(0, 10**6))
def test_sample_seeds_differ_in_every_part_of_the_key(seed, batch_index):
    rows = [
        *sample_seeds(seed, batch_index, PROMPTS, 2),
        *sample_seeds(seed + 1, batch_index, PROMPTS, 2),
        *sample_seeds(seed, batch_index + 1, PROMPTS, 2),
    ]
    assert len(set(rows)) == 60
    assert all(0 <= row < 2**63 for row in rows)


def test_uniforms_of_a_row_depend_on_its_seed_alone():
    together = uniforms([11, 22, 33], 6)
    assert np.array_equal(together[1], uniforms([22], 6)[0])
    assert np.array_equal(together[:, :4], uniforms([11, 22, 33], 4))


def test_uniforms_are_uniform_across_rows_and_tokens():
    draws = uniforms(sample_seeds(0, 0, [Prompt(i, ()) for i in range(2000)], 1), 5)
    assert draws.min() >= 0
    assert draws.max() < 1
    for t in range(5):
        assert stats.kstest(draws[:, t], "uniform").pvalue > 1e-3
    # 2000 pairs: a correlation of neighbours above 0.08 has probability < 4e-4
    assert np.abs(np.corrcoef(draws.T)[np.triu_indices(5, 1)]).max() < 0.08


@given(st.integers(1, 10), st.integers(0, 2**31), st.integers(0, 5))
def test_prompt_stream_never_repeats_a_prompt_within_an_epoch(batch_size, seed, epoch):
    stream = PromptStream(PROMPTS, batch_size, seed)
    per_epoch = len(PROMPTS) // batch_size
    batches = [stream.batch(epoch * per_epoch + i) for i in range(per_epoch)]
    ids = [p.prompt_id for batch in batches for p in batch]
    assert len(set(ids)) == len(ids) == per_epoch * batch_size


def test_prompt_stream_is_a_pure_function_of_seed_and_index():
    one, other = PromptStream(PROMPTS, 3, 5), PromptStream(PROMPTS, 3, 5)
    assert [one.batch(i) for i in (4, 0, 2)] == [other.batch(i) for i in (4, 0, 2)]
    assert one.batch(0) != PromptStream(PROMPTS, 3, 6).batch(0)
    assert one.batch(0) != one.batch(3)  # a new epoch, a new order


def test_prompt_stream_refuses_too_few_prompts():
    with pytest.raises(UserError, match="10 prompts are too few for batches of 11"):
        PromptStream(PROMPTS, 11, 0)
