import inspect
import subprocess
import sys

import pytest

from bench.engines import ENGINES, engine_class
from bench.errors import UserError
from bench.sources.base import Checksummed, InFlight


def test_engines_are_named_without_any_engines_libraries():
    code = (
        "import sys, bench.engines, bench.experiments.arms, reproductions.options\n"
        "print([m for m in ('transformers', 'vllm') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_an_unknown_engine_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"^engine 'sglang': allowed are hf, vllm$"):
        engine_class("sglang")


@pytest.mark.parametrize("name", ENGINES)
def test_a_class_says_what_it_is(name):
    found = engine_class(name)
    assert found.own_process in (True, False)
    assert list(inspect.signature(found.from_checkpoint).parameters) == [
        "model_dir", "dtype", "device", "pad_token_id", "eos_token_id",
    ]  # fmt: skip
    assert callable(found.require_installed)


def test_what_the_engines_can_do():
    said = {
        name: (found.own_process, issubclass(found, Checksummed), issubclass(found, InFlight))
        for name in ENGINES
        for found in [engine_class(name)]
    }
    assert said == {"hf": (False, True, False), "vllm": (True, True, True)}
