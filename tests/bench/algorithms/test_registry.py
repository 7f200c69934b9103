import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

from bench.algorithms import ALGORITHMS, build
from bench.algorithms.corrections import CORRECTIONS, ImportanceWeight
from bench.errors import UserError


def test_registry_has_every_variant_of_the_paper():
    paper = {
        "ppo", "rloo", "rloo_vanilla", "copg", "online_dpo", "online_ipo", "best_of_2"
    }  # fmt: skip
    assert paper <= set(ALGORITHMS)
    assert list(ALGORITHMS) == sorted(ALGORITHMS)


def test_registry_and_build_import_no_torch():
    program = (
        "import sys, bench.algorithms as a; [a.build(name) for name in a.ALGORITHMS]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "k", "epochs", "old_logprobs", "needs_ref", "needs_values"),
    [
        ("ppo", 1, 1, "behaviour", True, True),
        ("rloo", 2, 1, "behaviour", True, False),
        ("rloo_vanilla", 2, 1, "behaviour", True, False),
        ("copg", 2, 1, "behaviour", True, False),
        ("online_dpo", 2, 1, "behaviour", True, False),
        ("online_ipo", 2, 1, "behaviour", True, False),
        ("best_of_2", 2, 1, "behaviour", False, False),
        ("grpo", 2, 1, "behaviour", True, False),
        ("gspo", 2, 1, "behaviour", True, False),
        ("cispo", 2, 1, "behaviour", True, False),
        ("topr", 2, 1, "behaviour", True, False),
        ("asymre", 2, 1, "behaviour", True, False),
        ("dapo", 2, 1, "behaviour", True, False),
        ("dppo", 2, 1, "behaviour", True, False),
        ("dr_grpo", 2, 1, "behaviour", True, False),
        ("gspo_scaled", 2, 1, "behaviour", True, False),
        ("kimi", 2, 1, "behaviour", True, False),
        ("m2po", 2, 1, "behaviour", True, False),
        ("oapl", 2, 1, "behaviour", True, False),
        ("rebel", 2, 1, "behaviour", True, False),
        ("rloo_nll", 2, 1, "behaviour", True, False),
        ("sapo", 2, 1, "behaviour", True, False),
        ("vespo", 2, 1, "behaviour", True, False),
    ],
)
def test_build_gives_the_defaults(name, k, epochs, old_logprobs, needs_ref, needs_values):
    algorithm = build(name)
    assert algorithm.completions_per_prompt == k
    assert algorithm.epochs == epochs
    assert algorithm.old_logprobs == old_logprobs
    assert algorithm.needs_ref_logprobs is needs_ref
    assert algorithm.needs_values is needs_values


def test_build_applies_the_variant_and_then_the_params():
    assert (build("rloo").clip_range, build("rloo_vanilla").clip_range) == (0.2, None)
    assert build("rloo_vanilla", {"clip_range": 0.1}).clip_range == 0.1
    assert (build("online_dpo").loss_type, build("online_ipo").loss_type) == ("sigmoid", "ipo")
    assert build("online_ipo", {"loss_type": "sigmoid"}).loss_type == "sigmoid"
    assert build("rloo", {"old_logprobs": "proximal", "epochs": 3}).epochs == 3
    assert build("best_of_2", {"completions_per_prompt": 4}).completions_per_prompt == 4


@pytest.mark.parametrize(
    ("name", "params", "identity"),
    [
        # Those of recorded runs: a field added since, at its default, is not among them.
        ("ppo", {"completions_per_prompt": 2, "kl_coef": 0.1},
         {"completions_per_prompt": 2, "kl_coef": 0.1}),
        ("rloo", {"kl_coef": 0.1}, {"kl_coef": 0.1}),
        ("online_dpo", {}, {"beta": 0.1}),
        ("best_of_2", {}, {}),
        # The coefficient that is searched is always there, others where they differ.
        ("grpo", {"clip_range": 0.2}, {"kl_coef": 0.04}),
        ("rloo_vanilla", {"epochs": 2}, {"kl_coef": 0.05, "epochs": 2}),
        ("rloo", {"old_logprobs": "proximal"}, {"kl_coef": 0.05, "old_logprobs": "proximal"}),
    ],
)  # fmt: skip
def test_identity_is_the_searched_coefficient_and_what_differs(name, params, identity):
    assert build(name, params).identity() == identity


@pytest.mark.parametrize(
    ("name", "correction", "identity"),
    [
        ("ppo", None, {"name": "importance_weight"}),  # decoupled PPO
        ("ppo", ImportanceWeight(), {"name": "importance_weight"}),
        ("ppo", ImportanceWeight(level="sequence"),
         {"name": "importance_weight", "level": "sequence"}),
        ("ppo", {"name": "importance_weight", "cap": 2.0},
         {"name": "importance_weight", "cap": 2.0}),
        # One term for each completion: so is the weight.
        ("rloo", None, {"name": "importance_weight", "level": "sequence"}),
        ("rloo", {"name": "importance_weight", "level": "sequence", "cap": 2},
         {"name": "importance_weight", "level": "sequence", "cap": 2}),
    ],
)  # fmt: skip
def test_identity_holds_the_correction_and_builds_the_same_algorithm(name, correction, identity):
    algorithm = build(name, {"old_logprobs": "decoupled", "correction": correction})
    assert algorithm.identity() == {
        "kl_coef": 0.05, "old_logprobs": "decoupled", "correction": identity
    }  # fmt: skip
    plain = json.loads(json.dumps(algorithm.identity()))
    assert build(name, plain) == algorithm
    assert replace(algorithm, epochs=1) == algorithm


def test_algorithms_are_frozen():
    with pytest.raises(FrozenInstanceError):
        setattr(build("rloo"), "epochs", 2)  # noqa: B010


@pytest.mark.parametrize(
    ("name", "params", "parts"),
    [
        ("sarsa", {}, ["'sarsa'", "allowed are", "online_dpo", "rloo_vanilla"]),
        ("rloo", {"beta": 0.1}, ["rloo", "no parameter beta", "allowed are", "kl_coef"]),
        ("copg", {"old_logprobs": "proximal"}, ["no parameter old_logprobs"]),
        ("online_dpo", {"completions_per_prompt": 1}, ["= 1", "at least 2"]),
        ("online_ipo", {"completions_per_prompt": 1}, ["= 1", "at least 2"]),
        ("copg", {"completions_per_prompt": 1}, ["= 1", "at least 2"]),
        ("rloo", {"completions_per_prompt": 1}, ["= 1", "at least 2"]),
        ("best_of_2", {"completions_per_prompt": 1}, ["= 1", "at least 2"]),
        ("grpo", {"completions_per_prompt": 1}, ["= 1", "at least 2"]),
        ("gspo", {"clip_low": 0}, ["clip_low = 0", "above 0"]),
        ("cispo", {"ratio_max": -1}, ["ratio_max = -1", "above 0"]),
        ("topr", {"completions_per_prompt": 1}, ["= 1", "at least 2"]),
        ("ppo", {"completions_per_prompt": 0}, ["= 0", "at least 1"]),
        ("ppo", {"epochs": 1.5}, ["epochs = 1.5", "whole number"]),
        ("ppo", {"epochs": True}, ["epochs = True", "whole number"]),
        ("online_dpo", {"beta": 0.0}, ["beta = 0.0", "above 0"]),
        ("online_dpo", {"beta": "0.1"}, ["beta = '0.1'", "above 0"]),
        ("online_dpo", {"beta": float("nan")}, ["beta = nan", "above 0"]),
        ("online_dpo", {"loss_type": "hinge"}, ["loss_type = 'hinge'", "sigmoid, ipo"]),
        ("rloo", {"kl_coef": -0.1}, ["kl_coef = -0.1", "at least 0"]),
        ("rloo", {"clip_range": 0.0}, ["clip_range = 0.0", "above 0"]),
        ("rloo", {"clip_range": None}, ["clip_range = None", "above 0"]),
        ("rloo", {"old_logprobs": "recent"}, ["'recent'", "proximal, decoupled, interpolated"]),
        ("ppo", {"correction": ImportanceWeight()}, ["'behaviour'", "must be 'decoupled' or"]),
        ("ppo", {"old_logprobs": "proximal", "correction": ImportanceWeight()},
         ["'proximal'", "must be 'decoupled' or"]),
        ("rloo", {"old_logprobs": "decoupled", "correction": ImportanceWeight(cap=2.0)},
         ["importance_weight of level 'token'", "must be 'sequence'"]),
        ("ppo", {"correction": "tis"}, ["correction = 'tis'", "a correction, or None"]),
        ("online_dpo", {"correction": None}, ["no parameter correction"]),
    ],
)  # fmt: skip
def test_build_refuses_bad_input_in_one_line(name, params, parts):
    with pytest.raises(UserError) as caught:
        build(name, params)
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("correction", "message"),
    [
        ({"name": "tis"}, f"correction 'tis': allowed are {', '.join(CORRECTIONS)}"),
        ({"cap": 2.0}, f"correction None: allowed are {', '.join(CORRECTIONS)}"),
        ({"name": "second_moment_mask", "level": "sequence"},
         "correction second_moment_mask: level = 'sequence': must be one of token"),
        ({"name": "importance_weight", "max": 2.0},
         "correction importance_weight: no parameter max; allowed are level, cap"),
        ({"name": "importance_weight", "cap": 0},
         "correction importance_weight: cap = 0: must be a number above 0"),
        ({"name": "importance_weight", "level": "batch"},
         "correction importance_weight: level = 'batch': must be one of token, sequence"),
    ],
)  # fmt: skip
def test_build_refuses_a_bad_correction_in_one_line(correction, message):
    with pytest.raises(UserError) as caught:
        build("ppo", {"old_logprobs": "decoupled", "correction": correction})
    assert str(caught.value) == message
