"""The command: what its flags mean, what it prints, and that it measures."""

from io import StringIO

import pytest
from rich.console import Console

from bench import plan
from bench.experiments.presets import preset
from bench.planning.measure import LEAST, WARM_UP, measure
from bench.planning.simulation import Slowdown, Work
from bench.staleness import ON_POLICY

GIVEN = ["--generate-s", "2", "--train-s", "1", "--publish-s", "0.5", "--updates", "8"]


def made(*flags):
    console = Console(file=StringIO(), width=200)
    (found,) = plan.plans(plan.parse(flags), console)
    plan.show([found], console)
    return found, console.file.getvalue()


def test_times_by_flag_are_taken_as_they_are():
    found, _ = made(*GIVEN, "--whole-s", "2.5", "--engine-slowdown", "1.2")
    assert found.measured.split == (Work(generate_s=2, train_s=1, publish_s=0.5),)
    assert found.measured.whole == (Work(generate_s=0, train_s=2.5),)
    assert found.measured.slowdown == Slowdown(1.2, 1.0)
    assert (found.config.updates, found.config.stage.model) == (8, "0.1m")


def test_the_tables_and_the_advice_are_printed():
    found, said = made(*GIVEN, "--schedules", "on_policy,lag(1)")
    # split: (8 * 3.5 - 0.5) / 8 = 3.4375; lag(1): made every 2 s and trained on in 1 s: 17 / 8
    row = next(line.split() for line in said.splitlines() if "lag(1)" in line)
    assert row[:4] == ["split", "lag(1)", "2.125", "1.62"]
    assert found.chosen == 1
    assert (
        "0.1m: take lag(1), devices of their own: 2.12 s per update, 8 updates in 17 s, staleness "
        "0.88 (mean) 1 (maximum) optimiser steps" in said
    )
    assert "memory, without libraries and evaluation" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--generate-s", "1"], "--generate-s, --train-s: give both, or none to measure them"),
        (["--publish-s", "1"], "model 0.1m: no update was measured, nor given by flags"),
        ([*GIVEN, "--schedules", "lag(x)"], "--schedules: schedule 'lag(x)': allowed are"),
        ([*GIVEN, "--schedules", "reuse(3)"], "--schedules reuse(3): none is possible"),
        ([*GIVEN, "--models", "0.1m,0.4m"], "--models: times given by flag are those of one model"),
        ([*GIVEN, "--models", "7b"], "model '7b': preset tiny has 0.1m, 0.4m"),
        ([*GIVEN, "--engine-slowdown", "0.5"], "a slowdown is the time beside the other"),
        (["--measured-updates", "3"], f"--measured-updates 3: must be at least {LEAST}"),
        (["--generate-s", "soon"], "argument --generate-s: invalid float value: 'soon'"),
    ],
)
def test_what_is_not_possible_is_one_line(capsys, flags, message):
    assert plan.main(flags) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_machine_is_measured_with_untrained_models():
    said = []
    config = preset("smoke").run_config("online_dpo", ON_POLICY)
    found = measure(config, [], updates=LEAST, say=said.append)
    assert len(found.split) == len(found.whole) == LEAST - WARM_UP
    assert all(one.generate_s > 0 and one.train_s > 0 for one in (*found.split, *found.whole))
    assert min(found.slowdown.engine, found.slowdown.learner) >= 1
    assert said[0] == "smoke: no checkpoints there, measuring with untrained models"
    assert said[1:] == [
        f"smoke: {LEAST} updates, {arm}" for arm in ("split", "whole", "overlapped")
    ]
