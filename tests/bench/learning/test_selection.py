from dataclasses import replace

import pytest
import torch

from bench.algorithms import build
from bench.learning import selection
from bench.learning.logprobs import completion_logprobs
from bench.learning.sequences import Sequences
from bench.types import Rollouts, ScoredRollouts

from .test_learner import CONFIG, make, state

AGED = replace(CONFIG, max_age_updates=2, tokens_per_update=3)


def scored(lengths, policy_version=0, versions=None):
    """Return completions of these lengths, two of each prompt; rewards are 0, 1, 2, ..."""
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    made = Rollouts(
        policy_version, tuple("abc"[: len(lengths) // 2]), 2,
        torch.arange(len(lengths))[:, None] // 2, torch.ones(len(lengths), 1).bool(),
        mask.long(), mask, -mask.float(), mask.any(1), versions,
    )  # fmt: skip
    return ScoredRollouts(made, torch.arange(float(len(lengths))), mask.float())


def test_a_completion_is_older_for_its_tokens_and_as_old_as_its_oldest():
    made = scored([1, 3, 4, 7], policy_version=5).rollouts
    assert selection.ages(made, 7, None).tolist() == [2, 2, 2, 2]
    assert selection.ages(made, 7, 3).tolist() == [2, 2, 3, 4]
    versions = torch.tensor([[5, 6], [4, -1]])  # the second has one token
    made = scored([2, 1], policy_version=6, versions=versions).rollouts
    assert selection.ages(made, 7, None).tolist() == [2, 3]


def test_dropping_leaves_out_whole_prompts():
    given = scored([1, 4, 2, 3, 3, 1])  # ages 0, 1, 0, 0, 0, 0
    config = replace(AGED, max_age_updates=0, late="drop")
    found = selection.choose(given, Sequences.of(given.rollouts), 0, config)
    left = found.scored.rollouts
    assert left.prompts == ("b", "c")
    assert left.completion_mask.sum(1).tolist() == [2, 3, 3, 1]
    assert found.scored.rewards.tolist() == [2, 3, 4, 5]
    assert len(found.sequences.tokens) == len(found.scored.ref_logprobs) == 4
    assert found.withheld is None
    assert found.metrics == pytest.approx(
        {"late_fraction": 1 / 3, "drawn_length_mean_tokens": 14 / 6,
         "kept_length_mean_tokens": 9 / 4, "kept_reward_mean": 3.5}
    )  # fmt: skip


def test_withholding_keeps_all_rows_and_names_the_old_ones():
    given = scored([1, 4, 2, 3, 3, 1])
    found = selection.choose(
        given, Sequences.of(given.rollouts), 0, replace(AGED, max_age_updates=0)
    )
    assert found.scored is given
    assert found.withheld.tolist() == [False, True, False, False, False, False]
    assert found.metrics["kept_length_mean_tokens"] == 2.0


@pytest.mark.parametrize("rows", [None, 5])
def test_what_is_withheld_has_no_gradient_but_counts_in_baseline_and_mean(
    policy,
    reward_model,
    rollouts,
    rows,
):
    loss = build("rloo_vanilla", {"kl_coef": 0.0})
    lengths = rollouts.completion_mask.sum(1)
    most = 7  # of 8: what was cut is longer
    config = replace(
        AGED, max_age_updates=0, tokens_per_update=most, microbatch_rows=rows, learning_rate=1e-9
    )
    learner = make(policy, reward_model, loss, config)
    learner.step(rollouts)
    rewards = learner.scorer.score(rollouts, Sequences.of(rollouts), ref_logprobs=False).rewards
    advantages = rewards - rewards.view(-1, 2).flip(1).flatten()  # of all: leave one of two out
    sums = completion_logprobs(policy, Sequences.of(rollouts), 0.7).sum(1)
    kept = lengths <= most
    assert 0 < kept.sum() < 12
    expected = torch.autograd.grad(
        (-advantages * sums)[kept].sum() / 12, list(policy.parameters()), allow_unused=True
    )
    for p, gradient in zip(learner.policy.parameters(), expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(p.grad, gradient, rtol=1e-3, atol=1e-6)


def test_dropping_trains_as_on_a_batch_of_the_others(policy, reward_model, rollouts):
    loss = build("rloo", {})
    most = 7
    config = replace(AGED, max_age_updates=0, tokens_per_update=most, late="drop")
    ours, other = (make(policy, reward_model, loss, one) for one in (config, CONFIG))
    sequences = Sequences.of(rollouts)
    all_of_it = ours.scorer.score(rollouts, sequences, ref_logprobs=True)
    left = selection.choose(all_of_it, sequences, 0, config).scored.rollouts
    assert 0 < len(left.prompts) < 6
    found = ours.step(rollouts)
    assert found.metrics["late_fraction"] == pytest.approx(1 - len(left.prompts) / 6)
    other.step(left)
    torch.testing.assert_close(state(ours), state(other))


@pytest.mark.parametrize("late", ["withhold", "drop"])
def test_where_all_is_too_old_no_weight_moves_and_the_run_goes_on(
    policy,
    reward_model,
    rollouts,
    late,
):
    config = replace(CONFIG, max_age_updates=0, late=late)
    learner = make(policy, reward_model, build("rloo", {}), config)
    learner.step(rollouts)  # fresh: this moves them
    before = state(learner)
    record = learner.step(rollouts)  # one update old
    assert torch.equal(state(learner), before)
    assert record.finite
    assert record.metrics["late_fraction"] == 1.0
    assert learner.policy_version == 2


def test_where_nothing_is_too_old_it_is_the_same_run(policy, reward_model, rollouts):
    for late in ("withhold", "drop"):
        config = replace(CONFIG, max_age_updates=9, late=late)
        ours, plain = (make(policy, reward_model, build("ppo", {"completions_per_prompt": 2}), one,
                            reward_model) for one in (config, CONFIG))  # fmt: skip
        ours.step(rollouts)
        plain.step(rollouts)
        assert torch.equal(state(ours), state(plain))
