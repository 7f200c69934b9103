from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    DynamicCache,
    GPTNeoXForCausalLM,
    GPTNeoXForSequenceClassification,
)

from bench.throughput import workload
from bench.throughput.bench_learner import learner_of
from bench.throughput.table import Shape
from bench.throughput.workload import Product

from ...conftest import neox_config

SHAPE = Shape(model="0.1m", rows=6, prompt_tokens=5, completion_tokens=3)


def count_with_prompts_shared(backbone, head):
    """Return the operations of forward, and of both directions: 3 prompts of 5, 6 completions of 3.

    Completions run over their prompt's keys and values; outputs are at the last token of each
    prompt and at each of a completion: 3 + 6 * 3 = 21.
    """
    prompts, completions = torch.randint(2, 16, (3, 5)), torch.randint(2, 16, (6, 3))
    with FlopCounterMode(display=False) as counter:
        cache = DynamicCache(config=backbone.config)
        first = backbone(prompts, past_key_values=cache, use_cache=True).last_hidden_state[:, -1]
        cache.batch_repeat_interleave(2)
        rest = backbone(completions, past_key_values=cache, use_cache=True).last_hidden_state
        outputs = head(torch.cat([first, rest.flatten(0, 1)]))
        forward = counter.get_total_flops()
        outputs.sum().backward()
    return forward, counter.get_total_flops()


@pytest.mark.parametrize(("kind", "width"), [("policy", 16), ("score", 1)])
def test_products_are_those_the_model_does(kind, width):
    if kind == "policy":
        model = GPTNeoXForCausalLM(neox_config())
        head = model.get_output_embeddings()
    else:
        model = GPTNeoXForSequenceClassification(neox_config(num_labels=1))
        head = model.score
    model.set_attn_implementation("eager")
    forward, both = count_with_prompts_shared(model.gpt_neox, head)
    products = workload.forward_products(model.config, SHAPE, prompts=3, outputs=21, width=width)
    assert sum(p.flops for p in products) == forward
    assert workload.bare(products, backward=True)[1] == both


@pytest.mark.parametrize("algorithm", ["ppo", "rloo", "online_dpo", "best_of_2"])
def test_a_step_does_the_products_needed_and_no_other(algorithm):
    rollouts = workload.rollouts()
    learner, needed = learner_of(algorithm, rollouts)
    models = [learner.policy, *([learner.value_model] if learner.value_model else [])]
    for model in models:
        model.set_attn_implementation("eager")  # the other is one operation, which is not counted
    with FlopCounterMode(display=False) as counter:
        learner.step(rollouts)
    expected = 3 * sum(p.flops for p in needed)  # forward, and backward for both factors
    if algorithm == "ppo":  # besides, the values before the step
        settings = learner.value_model.config
        values = workload.token_products(settings, rows=128, prompts=64, width=1)
        expected += sum(p.flops for p in values)
    if algorithm == "best_of_2":
        # No two of its rows share a prompt, so both parts are read in one pass, in which the
        # prompt's 21 queries meet the completion's 19 keys, which the mask then takes back: scores
        # and weighted values of 2 layers, 4 heads of 16, in 64 rows.
        expected += 3 * 2 * (2 * 64 * 2 * 4 * 21 * 16 * 19)
    assert counter.get_total_flops() == expected


def test_bare_products_do_what_they_count():
    products = [Product(2, 1, 3, 4, 5), Product(1, 6, 7, 8, 9)]
    forward = 2 * (2 * 3 * 4 * 5) + 2 * (6 * 7 * 8 * 9)
    for backward, expected in ((False, forward), (True, 3 * forward)):
        run, flops = workload.bare(products, backward=backward)
        with FlopCounterMode(display=False) as counter:
            run()
        assert flops == counter.get_total_flops() == expected


def test_no_completion_ends_before_the_limit():
    tokenizer, sampling = workload.task().tokenizer, workload.sampling()
    prompts = workload.prompts(32)
    hot = replace(sampling, temperature=5.0)
    found = workload.engine().generate(prompts, hot, list(range(64)))
    assert found.completion_tokens.shape == (64, sampling.max_completion_tokens)
    assert found.completion_mask.all()
    assert not torch.isin(
        found.completion_tokens,
        torch.tensor([tokenizer.pad_token_id, tokenizer.eos_token_id]),
    ).any()
    assert found.logprobs.isfinite().all()
