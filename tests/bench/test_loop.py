"""What the loop records of an update, with a learner and a source that say what they are told."""

import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from bench.errors import UserError
from bench.loop import Progress, Run
from bench.records.schemas import DIAGNOSTICS
from bench.staleness import lag
from bench.types import LearnerStep, Prompt, Rollouts

from . import runs

MASK = torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()
SLEEP_S = 0.02


class Source:
    spans = ()

    def publish(self, snapshot):
        del snapshot
        time.sleep(SLEEP_S)

    def wants(self, policy_version):
        return policy_version <= 2

    def next(self):
        time.sleep(2 * SLEEP_S)
        return Rollouts(
            policy_version=0,
            prompts=(Prompt(0, (5,)), Prompt(1, (6,))),
            completions_per_prompt=1,
            prompt_tokens=torch.tensor([[5], [6]]),
            prompt_mask=MASK[:, :1],
            completion_tokens=torch.tensor([[2, 3, 4], [1, 0, 0]]),
            completion_mask=MASK,
            logprobs=torch.zeros(2, 3),
            finished=torch.tensor([False, True]),
            generate_s=0.25,
            transfer={"handoff_s": 0.125},
        )


class Learner:
    policy_version = 0
    policy = None
    algorithm = SimpleNamespace(completions_per_prompt=1)

    def __init__(self, losses):
        self._losses = iter(losses)

    def snapshot(self):
        return None

    def align(self):
        pass

    def step(self, rollouts):
        del rollouts
        self.policy_version += 1
        return LearnerStep(
            policy_version=self.policy_version - 1,
            learning_rate=0.01,
            loss=next(self._losses),
            grad_norm=3.0,
            reward_mean=-0.5,
            logprob_gap_mean=0.0625,
            score_s=0.001,
            learn_s=0.002,
            metrics={"clip_fraction": 0.75},
            diagnostics={"ess_fraction": 0.5, "gradient_cosine": None},
        )


EVALUATOR = SimpleNamespace(evaluate=lambda *_: (SimpleNamespace(win_rate=0.5), [], []))


def run(losses):
    return Run(runs.config(lag(1)), Source(), Learner(losses), EVALUATOR)


def test_a_row_has_what_learner_source_and_clock_say():
    progress, measured = [], []

    def on_progress(at):
        progress.append(at)
        measured.append((len(at.records.steps), len(at.records.evals)))

    result = run([2.0] * runs.UPDATES).execute(on_progress)
    assert [step.staleness for step in result.steps] == list(range(runs.UPDATES))
    row = asdict(result.steps[1])
    assert row.pop("publish_s") >= SLEEP_S
    assert row.pop("wait_s") >= 2 * SLEEP_S
    assert {name: row.pop(name) for name in DIAGNOSTICS} == {
        **dict.fromkeys(DIAGNOSTICS), "ess_fraction": 0.5
    }  # fmt: skip
    assert row == {
        "step": 1, "policy_version": 1, "rollout_version": 0, "staleness": 1,
        "learning_rate": 0.01, "loss": 2.0, "grad_norm": 3.0, "reward_mean": -0.5,
        "finished_fraction": 0.5, "completion_tokens": 4, "logprob_gap_mean": 0.0625,
        "generate_s": 0.25, "score_s": 0.001, "learn_s": 0.002,
        "metrics": {"clip_fraction": 0.75, "handoff_s": 0.125},
    }  # fmt: skip
    assert progress == [Progress(step + 1, 0.5) for step in range(runs.UPDATES)]
    # evaluated after 0, 3, 6 and 8 updates, each before the update is reported
    assert measured == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3), (7, 3), (8, 4)]


@pytest.mark.parametrize("width", [0, 3], ids=["no tokens", "all of them masked"])
def test_an_engine_that_returns_no_tokens_is_one_clear_line(width):
    class Silent(Source):
        def next(self):
            empty = torch.zeros(2, width)
            return replace(
                super().next(),
                completion_tokens=empty.long(),
                completion_mask=empty.bool(),
                logprobs=empty,
            )

    this = Run(runs.config(lag(1)), Silent(), Learner([2.0]), EVALUATOR)
    with pytest.raises(UserError) as raised:
        this.execute()
    assert str(raised.value) == (
        "engine 'hf': returned no completion tokens for batch 0, an engine must return at least "
        "one per completion"
    )


def test_a_run_ends_as_diverged_at_the_first_loss_that_is_not_finite():
    result = run([2.0, float("nan")]).execute()
    assert (result.status, result.diverged_at) == ("diverged", 1)
    assert len(result.steps) == 2
