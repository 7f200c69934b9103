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

SHAPE = Shape(model="0.1m", rows=6, prompt_tokens=5, completion_tokens=4)


def count_with_prompts_shared(backbone, head):
    """Return the operations of forward, and of both directions: 3 prompts of 5, 6 completions of 4.

    Completions run over their prompt's keys and values; outputs are at the last token of the prompt
    and at all but the last of the completion.
    """
    prompts, completions = torch.randint(2, 16, (3, 5)), torch.randint(2, 16, (6, 4))
    with FlopCounterMode(display=False) as counter:
        cache = DynamicCache(config=backbone.config)
        first = backbone(prompts, past_key_values=cache, use_cache=True).last_hidden_state[:, -1:]
        cache.batch_repeat_interleave(2)
        rest = backbone(completions, past_key_values=cache, use_cache=True).last_hidden_state
        outputs = head(torch.cat([first.repeat_interleave(2, 0), rest[:, :-1]], 1))
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
    products = workload.forward_products(model.config, SHAPE, prompts=3, outputs=4, width=width)
    assert sum(p.flops for p in products) == forward
    assert workload.bare(products, backward=True)[1] == both


def full(settings, shape, **head):
    """Return the operations of a forward pass over prompts and completions together.

    Every completion brings its prompt; and the prompt's queries meet the completion's keys, which
    the causal mask then takes back: scores and weighted values [P, T] of every head and layer.
    """
    products = workload.forward_products(settings, shape, prompts=shape.rows, **head)
    heads, size = settings.num_attention_heads, settings.hidden_size // settings.num_attention_heads
    masked = 2 * shape.rows * heads * shape.prompt_tokens * size * shape.completion_tokens
    return sum(p.flops for p in products) + 2 * settings.num_hidden_layers * masked


@pytest.mark.parametrize("algorithm", ["ppo", "rloo", "online_dpo", "best_of_2"])
def test_a_step_does_the_products_needed_and_the_overhead_named(algorithm):
    rollouts = workload.rollouts()
    learner, needed = learner_of(algorithm, rollouts)
    models = [learner.policy, *([learner.value_model] if learner.value_model else [])]
    for model in models:
        model.set_attn_implementation("eager")  # the other is one operation, which is not counted
    with FlopCounterMode(display=False) as counter:
        learner.step(rollouts)
    # Best-of-2 trains on the better completion of each prompt, the others on both.
    shape = workload.shape(rows=64 if algorithm == "best_of_2" else 128)
    settings, length = learner.policy.config, shape.completion_tokens
    expected = 3 * full(settings, shape, outputs=length + 1, width=settings.vocab_size)
    if algorithm == "ppo":  # values of the old policy, then forward and backward
        expected += 4 * full(learner.value_model.config, shape, outputs=length, width=1)
    assert counter.get_total_flops() == expected
    assert 3 * sum(p.flops for p in needed) < expected


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
