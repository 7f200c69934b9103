import copy
from dataclasses import dataclass, replace

import pytest
import torch

from bench.algorithms.base import LossOutput, Minibatch, Outputs
from bench.config import RunConfig
from bench.learning.learner import Learner
from bench.learning.logprobs import completion_logprobs, completion_values
from bench.learning.scoring import Scorer
from bench.learning.sequences import Sequences
from bench.staleness import ON_POLICY

from ..fake_config import STAGE, FakeAlgorithm

CONFIG = RunConfig(
    stage=STAGE,
    algorithm=FakeAlgorithm(),
    schedule=ON_POLICY,
    updates=4,
    prompts_per_batch=6,
    learning_rate=0.01,
    temperature=0.7,
    max_completion_tokens=8,
)


ROWS = [1, 5, 0, 7, 4, 10]  # of six pairs


@dataclass
class Contrastive:
    """A loss that couples every pair of rows, so that a wrong micro-batch shows."""

    completions_per_prompt: int = 2
    epochs: int = 1
    old_logprobs: str = "behaviour"
    needs_ref_logprobs: bool = True
    needs_values: bool = False
    scale: float = 1.0

    def prepare(self, inputs):
        self.inputs = inputs
        rows = torch.tensor(ROWS)
        return Minibatch(
            rows,
            inputs.scored.rollouts.completion_mask[rows],
            inputs.old_logprobs[rows],
            {"rewards": inputs.scored.rewards[rows]},
        )

    def loss(self, outputs, batch):
        sums = outputs.logprobs.sum(1) * batch.targets["rewards"]
        loss = torch.nn.functional.softplus(sums[:, None] - sums[None]).mean()
        if outputs.values is not None:
            loss = loss + (outputs.values.sum(1) - batch.targets["rewards"]).square().mean()
        return LossOutput(self.scale * loss, {"rows": float(len(sums))})


def make(policy, reward_model, algorithm, config=CONFIG, value_model=None):
    scorer = Scorer(
        copy.deepcopy(reward_model),
        copy.deepcopy(policy),
        temperature=config.temperature,
        missing_eos_penalty=config.missing_eos_penalty,
        microbatch_rows=config.microbatch_rows,
    )
    return Learner(config, algorithm, copy.deepcopy(policy), scorer, copy.deepcopy(value_model))


def state(learner):
    return torch.cat([p.detach().flatten() for p in learner._parameters])


def test_step_equals_plain_pytorch(policy, reward_model, rollouts):
    algorithm = Contrastive(needs_values=True)
    learner = make(policy, reward_model, algorithm, value_model=reward_model)
    record = learner.step(rollouts)

    models = [copy.deepcopy(policy), copy.deepcopy(reward_model)]
    parameters = [p for m in models for p in m.parameters()]
    # The first of four updates: rate 0.01 * (1 - 1/4).
    optimizer = torch.optim.AdamW(parameters, lr=0.0075, weight_decay=0.0)
    batch = algorithm.prepare(algorithm.inputs)
    sequences = Sequences.of(rollouts).select(batch.rows)
    loss = algorithm.loss(
        Outputs(
            completion_logprobs(models[0], sequences, 0.7),
            completion_values(models[1], sequences),
        ),
        batch,
    ).loss
    loss.backward()
    optimizer.step()

    assert torch.equal(state(learner), torch.cat([p.detach().flatten() for p in parameters]))
    assert record.loss == float(loss.detach())
    assert record.learning_rate == 0.0075
    assert record.metrics == {"rows": 6.0}


@pytest.mark.parametrize("rows", [1, 4, 5])
def test_micro_batches_give_the_same_gradient_for_a_coupled_loss(
    policy, reward_model, rollouts, rows
):
    whole = make(policy, reward_model, Contrastive(needs_values=True), value_model=reward_model)
    config = replace(CONFIG, microbatch_rows=rows)
    parts = make(policy, reward_model, Contrastive(needs_values=True), config, reward_model)
    for learner in (whole, parts):
        learner.step(rollouts)
    gradients = [[p.grad for p in learner._parameters] for learner in (whole, parts)]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5 * float(one.abs().max() + 1))


def test_completions_of_a_prompt_share_its_pass_in_micro_batches_too(
    policy, reward_model, rollouts
):
    config = replace(CONFIG, microbatch_rows=2)
    learner = make(policy, reward_model, Contrastive(), config)
    read = []
    learner.policy.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: read.append(tuple(inputs[0].shape))
    )
    learner.step(rollouts)
    before, after = rollouts.prompt_tokens.shape[1], rollouts.completion_tokens.shape[1] - 1
    # Rows 0 and 1, and 4 and 5, share a prompt, wherever they are among ROWS.
    shared, alone = [(1, before), (2, after)], [(2, before + after)]
    once = [*shared, *shared, *alone]
    assert read == [*once, *once]  # for the loss, and again for the gradient


@pytest.mark.parametrize("old_logprobs", ["proximal", "decoupled"])
def test_old_logprobs_are_those_the_algorithm_asks_for(
    policy, reward_model, rollouts, old_logprobs
):
    behaviour = Contrastive()
    make(policy, reward_model, behaviour).step(rollouts)
    assert behaviour.inputs.old_logprobs is rollouts.logprobs

    proximal = Contrastive(old_logprobs=old_logprobs)
    learner = make(policy, reward_model, proximal)
    learner.step(rollouts)
    before = completion_logprobs(policy, Sequences.of(rollouts), 0.7)
    assert torch.equal(proximal.inputs.old_logprobs, before.detach())
    assert proximal.inputs.behaviour_logprobs is rollouts.logprobs
    stale = learner.step(rollouts)  # the learner has moved on; the gap is what it moved
    rows = torch.tensor(ROWS)
    moved = (proximal.inputs.old_logprobs - rollouts.logprobs)[rows].abs().sum()
    expected = moved / rollouts.completion_mask[rows].sum()
    assert stale.logprob_gap_mean == pytest.approx(float(expected))
    assert stale.logprob_gap_mean > 1e-3


def test_epochs_take_that_many_optimiser_steps_but_one_version(policy, reward_model, rollouts):
    learner = make(policy, reward_model, Contrastive(epochs=3))
    record = learner.step(rollouts)
    steps = {int(s["step"]) for s in learner._optimizer.state.values()}
    assert steps == {3}
    assert learner.policy_version == record.policy_version + 1 == 1


def test_a_step_names_the_version_that_it_improves(policy, reward_model, rollouts):
    learner = make(policy, reward_model, Contrastive())
    assert [learner.step(rollouts).policy_version for _ in range(3)] == [0, 1, 2]
    assert learner.policy_version == 3


def test_a_snapshot_is_a_copy_that_training_does_not_reach(policy, reward_model, rollouts):
    learner = make(policy, reward_model, Contrastive())
    snapshot = learner.snapshot()
    learner.step(rollouts)
    assert snapshot.policy_version == 0
    for name, value in policy.state_dict().items():
        assert torch.equal(snapshot.state[name], value)
    assert not torch.equal(
        learner.snapshot().state["lm_head.weight"], policy.state_dict()["lm_head.weight"]
    )


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_non_finite_loss_is_recorded_and_not_applied(policy, reward_model, rollouts, scale):
    learner = make(policy, reward_model, Contrastive(scale=scale))
    before = state(learner)
    record = learner.step(rollouts)
    assert not torch.isfinite(torch.tensor(record.loss))
    assert not record.finite
    assert torch.equal(state(learner), before)


def test_gradient_norm_is_clipped_only_where_asked(policy, reward_model, rollouts):
    learner = make(policy, reward_model, Contrastive(), replace(CONFIG, max_grad_norm=1e-3))
    record = learner.step(rollouts)
    clipped = torch.cat([p.grad.flatten() for p in learner._parameters]).norm()
    assert record.grad_norm > 1e-2
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("epochs", [1, 2])
def test_learning_rate_is_scaled_by_the_root_of_the_effective_sample_size(
    policy, reward_model, rollouts, epochs
):
    records, weights = [], []
    for scale in ("none", "ess"):
        learner = make(
            policy, reward_model, Contrastive(epochs=epochs), replace(CONFIG, lr_scale=scale)
        )
        fresh, stale = learner.step(rollouts), learner.step(rollouts)
        assert fresh.learning_rate == pytest.approx(0.0075, rel=1e-6)  # as at plain PyTorch above
        records.append(stale)
        weights.append(state(learner))
    plain, scaled = records
    assert plain.learning_rate == 0.005
    share = scaled.diagnostics["ess_fraction"]
    assert share < 0.99
    assert scaled.learning_rate == pytest.approx(0.005 * share**0.5)
    assert not torch.equal(*weights)
