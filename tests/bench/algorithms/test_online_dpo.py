import math

import pytest
import torch

from bench.algorithms import build
from bench.algorithms.base import Outputs
from bench.errors import UserError


def pair(make_inputs, rewards):
    """Return inputs of one prompt; the second completion has one token."""
    return make_inputs(
        k=2,
        rewards=rewards,
        mask=[[1, 1], [1, 0]],
        old=[[-1.0, -1.0], [-1.0, 0.0]],
        ref=[[-1.0, -1.0], [-1.0, 0.0]],
    )


# new - ref: 0.5 + 1 = 1.5 for row 0 and -0.5 for row 1, so h = 2 if row 0 is chosen, else -2.
NEW = torch.tensor([[-0.5, 0.0], [-1.5, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "rewards", "expected"),
    [
        ("online_dpo", [1.0, 0.0], math.log(1 + math.exp(-0.2))),  # -log sigmoid(0.1 * 2)
        ("online_dpo", [0.0, 1.0], math.log(1 + math.exp(0.2))),
        ("online_ipo", [1.0, 0.0], 9.0),  # (2 - 1 / (2 * 0.1))^2 = (2 - 5)^2
        ("online_ipo", [0.0, 1.0], 49.0),  # (-2 - 5)^2
    ],
)
def test_loss_by_hand(make_inputs, name, rewards, expected):
    algorithm = build(name)
    batch = algorithm.prepare(pair(make_inputs, rewards))
    out = algorithm.loss(Outputs(NEW[batch.rows]), batch)
    assert out.loss.item() == pytest.approx(expected)
    chosen_is_first = rewards[0] > rewards[1]
    assert out.metrics == {
        "margin_mean": pytest.approx(0.2 if chosen_is_first else -0.2),
        "accuracy": float(chosen_is_first),
        "reward_margin_mean": 1.0,
        "tie_fraction": 0.0,
        "kl_ref_mean": pytest.approx(0.5),  # (1.5 - 0.5) / 2
    }


def test_prepare_takes_best_and_worst_of_k_and_the_first_of_equals(make_inputs):
    # Prompt 0: best is row 1 (first of the two 5s), worst row 3 (first of the two 0s).
    # Prompt 1: all equal, so completions 0 and 1, rows 5 and 6. Prompt 2: descending, 10 and 14.
    rewards = [1, 5, 5, 0, 0, 2, 2, 2, 2, 2, 4, 3, 2, 1, 0]
    column = [[0.0]] * 15
    inputs = make_inputs(k=5, rewards=rewards, mask=[[1]] * 15, old=column, ref=column)
    batch = build("online_dpo", {"completions_per_prompt": 5}).prepare(inputs)
    assert batch.rows.tolist() == [1, 5, 10, 3, 6, 14]
    assert batch.targets["rewards"].tolist() == [5, 2, 4, 0, 2, 0]


def test_a_random_pair_is_the_first_two_completions_with_the_better_as_chosen(make_inputs):
    # Rows 0 1 | 4 5 | 8 9 of three prompts with K = 4, whatever the others' rewards. Prompt 0: row
    # 1 has more (1 < 2). Prompt 1: row 4 (3 > 0). Prompt 2: equal, so the first is chosen.
    rewards = [1, 2, 9, -9, 3, 0, 7, 7, 4, 4, 5, 0]
    column = [[0.0]] * 12
    inputs = make_inputs(k=4, rewards=rewards, mask=[[1]] * 12, old=column, ref=column)
    random = build("online_dpo", {"completions_per_prompt": 4, "pair": "random"})
    batch = random.prepare(inputs)
    assert batch.rows.tolist() == [1, 4, 8, 0, 5, 9]
    assert batch.targets["rewards"].tolist() == [2, 3, 4, 1, 0, 4]


def test_at_k_2_the_random_pair_is_the_best_and_the_worst(make_inputs):
    both = [
        build("online_dpo", {"pair": pair_}).prepare(pair(make_inputs, [0.0, 1.0]))
        for pair_ in ("best_and_worst", "random")
    ]
    assert both[0].rows.tolist() == both[1].rows.tolist() == [1, 0]


def test_the_pair_is_part_of_the_identity_only_where_it_is_random():
    assert build("online_dpo").identity() == {"beta": 0.1}
    assert build("online_dpo", {"pair": "random"}).identity() == {"beta": 0.1, "pair": "random"}
    with pytest.raises(UserError, match="pair = 'worst': must be one of best_and_worst, random"):
        build("online_dpo", {"pair": "worst"})


def test_a_tie_is_trained_on_with_the_first_as_chosen(make_inputs):
    dpo = build("online_dpo")
    batch = dpo.prepare(pair(make_inputs, [-1.0, -1.0]))
    out = dpo.loss(Outputs(NEW[batch.rows]), batch)
    assert batch.rows.tolist() == [0, 1]
    assert out.loss.item() == pytest.approx(math.log(1 + math.exp(-0.2)))
    assert out.metrics["tie_fraction"] == 1.0


def test_loss_is_log_2_where_the_policy_is_the_reference(random_batch):
    inputs, _, _ = random_batch(seed=0)
    dpo = build("online_dpo")
    batch = dpo.prepare(inputs)
    out = dpo.loss(Outputs(inputs.scored.ref_logprobs[batch.rows]), batch)
    assert out.loss.item() == pytest.approx(math.log(2))
    assert out.metrics["kl_ref_mean"] == 0.0


@pytest.mark.parametrize("k", [2, 4])
def test_sigmoid_loss_equals_trl(random_batch, trl_dpo_loss, k):
    inputs, new, _ = random_batch(seed=k, k=k)
    dpo = build("online_dpo", {"completions_per_prompt": k})
    batch = dpo.prepare(inputs)
    new, ref = new[batch.rows], inputs.scored.ref_logprobs[batch.rows]
    expected = trl_dpo_loss(new, ref, batch.mask, beta=0.1, loss_type="sigmoid")
    assert dpo.loss(Outputs(new), batch).loss.item() == pytest.approx(expected.item(), rel=1e-12)


def test_ipo_loss_equals_trl_up_to_its_length_normalisation(make_inputs, trl_dpo_loss):
    # TRL divides h by the length. For completions of one length L,
    # (h / L - 1 / (2 b))^2 = (h - L / (2 b))^2 / L^2, which is ours over L^2 if b = L beta.
    length = 4
    generator = torch.Generator().manual_seed(0)
    ref, new = torch.randn(2, 6, length, generator=generator, dtype=torch.float64)
    mask = torch.ones(6, length, dtype=torch.bool)
    inputs = make_inputs(k=2, rewards=[1, 0, 0, 1, 1, 0], mask=mask, old=ref, ref=ref)
    ipo = build("online_ipo", {"beta": 0.3})
    batch = ipo.prepare(inputs)
    trl = trl_dpo_loss(new[batch.rows], ref[batch.rows], mask, beta=length * 0.3, loss_type="ipo")
    out = ipo.loss(Outputs(new[batch.rows]), batch)
    assert out.loss.item() == pytest.approx(length**2 * trl.item(), rel=1e-12)


def test_ipo_loss_equals_a_naive_loop(random_batch):
    inputs, new, _ = random_batch(seed=5)
    ipo = build("online_ipo")
    mask, ref = inputs.scored.rollouts.completion_mask, inputs.scored.ref_logprobs
    total = 0.0
    for first in range(0, len(mask), 2):
        log_ratios = []
        for row in (first, first + 1):
            tokens = range(int(mask[row].sum()))
            log_ratios.append(sum((new[row, t] - ref[row, t]).item() for t in tokens))
        h = log_ratios[0] - log_ratios[1]
        if inputs.scored.rewards[first] < inputs.scored.rewards[first + 1]:
            h = -h
        total += (h - 5) ** 2
    batch = ipo.prepare(inputs)
    out = ipo.loss(Outputs(new[batch.rows]), batch)
    assert out.loss.item() == pytest.approx(total / (len(mask) // 2), rel=1e-12)
