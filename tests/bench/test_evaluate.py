import copy
import math
from dataclasses import replace

import pytest
import torch

from bench.config import EvalConfig, RunConfig
from bench.errors import UserError
from bench.evaluate import Elapsed, Evaluator
from bench.learning.scoring import Scorer
from bench.staleness import ON_POLICY
from bench.types import Outcome

from .fake_config import STAGE, FakeAlgorithm

CONFIG = RunConfig(
    stage=STAGE,
    algorithm=FakeAlgorithm(),
    schedule=ON_POLICY,
    updates=4,
    prompts_per_batch=6,
    learning_rate=0.01,
    temperature=0.7,
    max_completion_tokens=8,
    missing_eos_penalty=-3.0,
    evaluation=EvalConfig(prompts=6, samples=2),
)
AT = Elapsed(step=3, episodes=18, completions=36, wall_s=1.5)


def evaluator(policy, reward_model, task, config=CONFIG):
    reference = copy.deepcopy(policy)
    with torch.no_grad():
        for p in reference.parameters():
            p.mul_(0.8)
    scorer = Scorer(reward_model, reference, temperature=0.7, missing_eos_penalty=-3.0)
    return Evaluator(config, task, scorer), reference


def nll(model, prompt, completion, temperature):
    tokens = torch.tensor([[*prompt, *completion]])
    logprobs = torch.log_softmax(model(tokens).logits[0] / temperature, -1)
    picks = [
        float(logprobs[len(prompt) - 1 + t, token].detach()) for t, token in enumerate(completion)
    ]
    return -sum(picks)


def test_evaluation_equals_naive_sums(policy, reward_model, prompts, fake_task):
    judge, reference = evaluator(policy, reward_model, fake_task)
    greedy = judge._generate_at(policy, 0.01, 8).completions()
    record, samples, outcomes = judge.evaluate(policy, AT)

    # Gold is minus the length and references have 3 tokens: win below 3, tie at 3.
    wins = [1.0 if len(c) < 3 else 0.5 if len(c) == 3 else 0.0 for c in greedy]
    assert record.win_rate == pytest.approx(sum(wins) / 6)
    assert record.gold_mean == pytest.approx(-sum(len(c) for c in greedy) / 6)
    assert record.reference_gold_mean == -3.0
    assert record.completion_tokens_mean == pytest.approx(sum(len(c) for c in greedy) / 6)
    assert (record.step, record.episodes, record.completions, record.wall_s) == (3, 18, 36, 1.5)

    nlls = [nll(reference, p.token_ids, c, 1.0) for p, c in zip(prompts, greedy, strict=True)]
    assert record.perplexity == pytest.approx(
        math.exp(sum(nlls) / sum(len(c) for c in greedy)), rel=1e-4
    )
    diluted = [
        math.exp(x / (len(p.token_ids) + len(c)))
        for x, p, c in zip(nlls, prompts, greedy, strict=True)
    ]
    assert record.perplexity_diluted == pytest.approx(sum(diluted) / 6, rel=1e-4)

    sampled = judge._generate_at(policy, 0.7, 8).completions()
    kl = [
        nll(reference, p.token_ids, c, 0.7) - nll(policy, p.token_ids, c, 0.7)
        for p, c in zip(prompts, sampled, strict=True)
    ]
    assert record.kl_nats == pytest.approx(sum(kl) / 6, rel=1e-4)

    words = ["win" if len(c) < 3 else "tie" if len(c) == 3 else "loss" for c in greedy]
    assert outcomes == [
        Outcome(prompt.prompt_id, word, len(c), 3)
        for prompt, word, c in zip(prompts, words, greedy, strict=True)
    ]

    assert len(samples) == 2
    assert samples[0].completion == " ".join(map(str, greedy[0]))


def test_kl_of_the_reference_itself_is_zero(policy, reward_model, fake_task):
    judge, reference = evaluator(policy, reward_model, fake_task)
    record, _, _ = judge.evaluate(reference, AT)
    assert record.kl_nats == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"microbatch_rows": 4}, 4),
        ({"evaluation": replace(CONFIG.evaluation, rows=2)}, 2),
        ({"microbatch_rows": 4, "evaluation": replace(CONFIG.evaluation, rows=5)}, 5),
    ],
)
def test_evaluation_is_the_same_every_time_and_in_parts(
    policy, reward_model, fake_task, settings, rows
):
    judge, _ = evaluator(policy, reward_model, fake_task)
    in_parts, _ = evaluator(policy, reward_model, fake_task, replace(CONFIG, **settings))
    one, two = (replace(judge.evaluate(policy, AT)[0], evaluate_s=0) for _ in range(2))
    read = []
    policy.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: read.append(len(inputs[0]))
    )
    three, _, _ = in_parts.evaluate(policy, AT)
    assert max(read) == rows
    assert one == two
    for name in ("win_rate", "kl_nats", "perplexity", "perplexity_diluted", "reward_mean"):
        assert getattr(one, name) == pytest.approx(getattr(three, name), rel=1e-4)


def test_evaluator_refuses_more_prompts_than_there_are(policy, reward_model, fake_task):
    config = replace(CONFIG, evaluation=EvalConfig(prompts=7))
    with pytest.raises(UserError, match="prompts = 7: split 'eval' has 6"):
        evaluator(policy, reward_model, fake_task, config)
