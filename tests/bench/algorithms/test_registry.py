import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from bench.algorithms import available, build
from bench.errors import UserError


def test_available_lists_every_variant_of_the_paper():
    paper = {
        "ppo", "rloo", "rloo_vanilla", "copg", "online_dpo", "online_ipo", "best_of_2"
    }  # fmt: skip
    assert paper <= set(available())
    assert list(available()) == sorted(set(available()))


def test_available_imports_no_torch():
    program = "import sys, bench.algorithms as a; a.available(); sys.exit('torch' in sys.modules)"
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
    assert build("rloo_vanilla") == build("rloo", {"clip_range": None}) != build("rloo")
    assert build("online_ipo") == build("online_dpo", {"loss_type": "ipo"}) != build("online_dpo")
    assert build("online_ipo", {"loss_type": "sigmoid"}) == build("online_dpo")
    assert build("rloo", {"old_logprobs": "proximal", "epochs": 3}).epochs == 3
    assert build("best_of_2", {"completions_per_prompt": 4}).completions_per_prompt == 4


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
        ("rloo", {"old_logprobs": "recent"}, ["'recent'", "behaviour, proximal"]),
    ],
)
def test_build_refuses_bad_input_in_one_line(name, params, parts):
    with pytest.raises(UserError) as caught:
        build(name, params)
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    for part in parts:
        assert part in message
