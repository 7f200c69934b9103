"""The ceiling that a record of runs has; what a task says is tested with the task."""

import pytest

from bench.experiments.presets import preset
from bench.staleness import ON_POLICY
from reproductions.ceiling import ceiling


def cell(**changes):
    """Return a stored configuration, with changes to its evaluation or its stage."""
    found = preset("tiny").run_config("ppo", ON_POLICY).cell()
    found["stage"] = found["stage"] | changes.pop("stage", {})
    found["evaluation"] = found["evaluation"] | changes
    return found


def test_ceiling_is_of_the_prompts_that_the_runs_are_evaluated_on():
    # 41 of the 512 references are perfect.
    assert ceiling([cell(), cell(every=4)]) == (1 - 20.5 / 512, ())
    (tuning, remarks) = ceiling([cell(split="tuning")])
    assert (tuning, remarks) == (1 - 28 / 512, ())


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [cell(), cell(prompts=256)],  # of two evaluations there is no one ceiling
        [cell(stage={"task": "tldr", "task_params": {}})],  # the judge is a model
    ],
)
def test_ceiling_may_be_unknown(cells):
    assert ceiling(cells) == (None, ())


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"task": "elsewhere"}, "task 'elsewhere': allowed are"),
        ({"task_params": {"colours": 3}}, "colours"),
    ],
)
def test_a_configuration_that_cannot_be_made_is_said_in_a_line(stage, words):
    found, (line,) = ceiling([cell(stage=stage)])
    assert found is None
    assert line.startswith("Ceiling of the win rate unknown: ")
    assert words in line
