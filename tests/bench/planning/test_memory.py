"""What a run needs, against what PyTorch allocates for it, and against published sizes."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import GPTNeoXForCausalLM, GPTNeoXForSequenceClassification

from bench.engines.hf import HfEngine
from bench.experiments.presets import preset
from bench.learning.learner import Learner
from bench.learning.scoring import Scorer
from bench.planning.fit import PYTHIA
from bench.planning.memory import Memory, Shape, memory
from bench.randomness import sample_seeds
from bench.staleness import ON_POLICY, lag
from bench.types import Prompt, Sampling

from ...conftest import neox_config

SIZES = {"hidden": 128, "layers": 3, "inner": 512}


def config(algorithm="online_dpo", **overrides):
    run = preset("tiny").run_config(algorithm, ON_POLICY)
    return replace(run, prompts_per_batch=16, max_completion_tokens=12, **overrides)


def peak_bytes(work) -> int:
    """Return the most that PyTorch's allocator hands out during ``work``, beyond what it had."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = work()
    events = profiler.profiler.kineto_results.events()
    now = most = 0
    for event in events:
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    del kept
    return most


def one_update(run, vocabulary, prompt_tokens):
    """Build all that a run in one process has and do two updates, the second one in full."""
    settings = partial(
        neox_config,
        vocab_size=vocabulary,
        hidden_size=SIZES["hidden"],
        num_hidden_layers=SIZES["layers"],
        intermediate_size=SIZES["inner"],
        num_attention_heads=4,
        max_position_embeddings=256,
    )
    frozen = getattr(torch, run.dtype)
    policy = GPTNeoXForCausalLM(settings())
    reward = GPTNeoXForSequenceClassification(settings(num_labels=1)).to(frozen)
    scorer = Scorer(
        reward,
        GPTNeoXForCausalLM(settings()).to(frozen),
        temperature=0.7,
        missing_eos_penalty=-1.0,
        microbatch_rows=run.microbatch_rows,
    )
    values = None
    if run.algorithm.needs_values:
        values = GPTNeoXForSequenceClassification(settings(num_labels=1))
    learner = Learner(run, run.algorithm, policy, scorer, values)
    engine = HfEngine(
        GPTNeoXForCausalLM(settings()).to(frozen), pad_token_id=0, eos_token_id=vocabulary - 1
    )
    never = engine.model.get_output_embeddings().weight
    torch.nn.init.zeros_(never)  # tokens are uniform: hardly any completion ends early
    draw = torch.Generator().manual_seed(0)
    prompts = [
        Prompt(
            i, tuple(torch.randint(1, vocabulary - 1, (prompt_tokens,), generator=draw).tolist())
        )
        for i in range(run.prompts_per_batch)
    ]
    k = run.algorithm.completions_per_prompt
    sampling = Sampling(0.7, run.max_completion_tokens, k, run.engine_rows)
    snapshots = []
    for step in range(2):
        snapshots[:] = [learner.snapshot()]
        rollouts = engine.generate(prompts, sampling, sample_seeds(0, step, prompts, k))
        assert rollouts.completion_tokens.shape[1] == run.max_completion_tokens
        learner.step(rollouts)
    return learner, engine, snapshots


@pytest.mark.parametrize(
    ("run", "vocabulary", "prompt_tokens"),
    [
        (config(), 100, 24),  # activations are the largest part
        (config(microbatch_rows=8), 100, 24),
        (config(dtype="bfloat16"), 100, 24),
        (config("ppo"), 100, 24),  # with a value model
        (config(), 4000, 8),  # logits are
        (config(microbatch_rows=2), 4000, 8),  # weights and optimiser are
        (config(microbatch_rows=2), 100, 120),  # the cache of the engine counts
        (config(microbatch_rows=2, engine_rows=16), 100, 120),  # half of it
    ],
    ids=["float32", "micro-batches", "bfloat16", "values", "logits", "weights", "cache", "parts"],
)
def test_the_peak_is_within_a_fifth_of_what_is_allocated(run, vocabulary, prompt_tokens):
    shape = Shape(**SIZES, vocabulary=vocabulary)
    predicted, engine = memory(run, shape, shape, prompt_tokens=prompt_tokens)
    assert engine is None
    allocated = peak_bytes(lambda: one_update(run, vocabulary, prompt_tokens))
    assert predicted.peak == pytest.approx(allocated, rel=0.2)


def test_parameters_are_those_that_are_published():
    # of EleutherAI's model cards
    assert PYTHIA["410m"].language_model == 405_334_016
    assert PYTHIA["1b"].language_model == 1_011_781_632
    assert PYTHIA["2.8b"].language_model == 2_775_208_960
    assert PYTHIA["6.9b"].language_model == 6_857_302_016


def test_each_part_by_hand():
    # hidden 2, one layer, inner 8, 5 words: backbone 10 + (16 + 8) + (32 + 10) + 8 + 4 = 88
    shape = Shape(hidden=2, layers=1, inner=8, vocabulary=5)
    assert (shape.language_model, shape.scorer) == (98, 90)
    run = replace(
        config("ppo"), prompts_per_batch=3, max_completion_tokens=4, schedule=lag(2)
    )  # K = 2: 6 rows
    one, _ = memory(run, shape, shape, prompt_tokens=6, judge_bytes=7)
    assert one.lasting == {
        "weights": 4 * (98 + 90),
        "optimiser": 8 * (98 + 90),
        "reference": 4 * 98,
        "reward model": 4 * 90,
        "judge": 7,
        "snapshots": 4
        * 98
        * 4,  # versions i - 2 to i, and the new one before the oldest is dropped
        "engine": 4 * 98,
    }
    # read: 3 prompts of 6 and 6 completions of 4; cached: 6 rows of 10; per model
    activations = 2 * ((29 * 2 + 8 * 8) * (18 + 24) + 8 * 2 * 60)
    assert one.phases["training"] == {
        "activations": activations,
        "logits": 12 * 6 * 4 * 5,
        "cast weights": 0,
    }
    assert one.phases["step"] == {"gradients": 4 * 188, "step": 4 * 188}
    assert one.phases["decoding"] == {
        "KV cache": int(1.5 * 16 * 6 * 10),
        "sampling": 16 * 6 * 5,
        "gradients": 4 * 188,
    }


def test_an_engine_of_its_own_is_counted_apart_and_beside_the_learner_at_once():
    shape = Shape(**SIZES, vocabulary=100)
    learner, engine = memory(config(), shape, shape, prompt_tokens=24, inline=False)
    assert "engine" not in learner.lasting
    assert set(engine.lasting) == {"engine"}
    assert learner.beside(engine).peak == learner.peak + engine.peak


def test_the_largest_phase_counts():
    one = Memory({"weights": 10}, {"training": {"logits": 5}, "step": {"step": 7}})
    assert one.peak == 17
