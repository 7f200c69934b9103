"""Runs of two generations of SFT or reward models never count together."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from bench.experiments.presets import preset
from bench.records import store
from reproductions.loading import load, newest_weights
from tests.bench import fakes

SHARED = preset("tiny").stage("0.1m")
PER_SEED = replace(SHARED, reward_per_seed=True)
OTHER_REWARD = preset("tiny").stage("0.1m", "0.4m")
LARGER = preset("tiny").stage("0.4m")


def table(*rows):
    """Return runs in order of their start: stage, seed, weights digest, SFT digest."""
    return pd.DataFrame([
        {
            "config_json": json.dumps({"stage": stage.identity()}),
            "model": stage.model,
            "seed": seed,
            "weights_digest": weights,
            "sft_digest": sft,
        }
        for stage, seed, weights, sft in rows
    ])  # fmt: skip


def kept(*rows):
    frame, _ = newest_weights(table(*rows))
    return frame.index.tolist()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # Reward models of several seeds are no generations.
        ([(PER_SEED, 0, "a", "x"), (PER_SEED, 1, "b", "x")], [0, 1]),
        # Of one seed they are.
        ([(PER_SEED, 0, "a", "x"), (PER_SEED, 1, "b", "x"), (PER_SEED, 0, "c", "x")], [1, 2]),
        # Where all seeds share one, two weights are two generations.
        ([(SHARED, 0, "a", "x"), (SHARED, 1, "b", "x")], [1]),
        # An older SFT model goes, whatever the seed.
        ([(PER_SEED, 0, "a", "x"), (PER_SEED, 1, "b", "x"), (PER_SEED, 1, "c", "y")], [2]),
        # Stages that share an SFT model share its generation, not each other's weights.
        ([(SHARED, 0, "a", "x"), (OTHER_REWARD, 0, "b", "x")], [0, 1]),
        ([(SHARED, 0, "a", "x"), (OTHER_REWARD, 0, "b", "y")], [1]),
        # Sizes have nothing to do with each other.
        ([(SHARED, 0, "a", "x"), (LARGER, 0, "b", "y")], [0, 1]),
        # Of older records only the digest of both is known.
        ([(SHARED, 0, "a", None), (SHARED, 1, "a", "x")], [0, 1]),
        ([(SHARED, 0, "a", None), (SHARED, 1, "b", "x")], [1]),
        ([(SHARED, 0, "a", "x"), (SHARED, 1, "b", None)], [1]),
        ([(SHARED, 0, "a", None), (SHARED, 1, "b", None)], [1]),
    ],
)
def test_which_runs_count(rows, expected):
    assert kept(*rows) == expected


def test_many_weights_are_counted_not_listed():
    rows = [(PER_SEED, seed, letter, "x") for seed, letter in enumerate("abcdef")]
    _, (line,) = newest_weights(table((PER_SEED, 0, "z", "w"), *rows))
    assert line == (
        "Left out: 1 runs from older SFT and reward models (0.1m: z); what counts is the newest "
        "(0.1m: a, 0.1m: b, 0.1m: c, 0.1m: d, 2 more)"
    )


def test_runs_of_reward_models_by_seed_are_loaded_together(tmp_path):
    run = replace(fakes.config(), stage=PER_SEED)
    for seed in (0, 1):
        config = run.with_seed(seed)
        store.write_run(
            tmp_path, config, fakes.result(config), preset="tiny",
            weights_digest=str(seed) * 12, sft_digest="f" * 12, provenance=fakes.PROVENANCE,
        )  # fmt: skip
    found = load(tmp_path, [run], preset("tiny"), all_seeds=True)
    assert found.final["weights_digest"].tolist() == ["0" * 12, "1" * 12]
    assert found.final["sft_digest"].tolist() == ["f" * 12] * 2
    assert found.remarks == ()
