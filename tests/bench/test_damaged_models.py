"""A damaged model folder of the hub's layout is refused in one line, or loaded as it says."""

import json
import shutil
from contextlib import suppress

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPTNeoXForCausalLM,
    GPTNeoXForSequenceClassification,
)

from bench.hub import load_model, load_pretrained
from tests.damage import DAMAGE, FLIPS, fuzz, refusal

from .stand_ins import WORDS, model_config, save_tokenizer

WEIGHTS = "model.safetensors"
SMALL = st.none() | st.booleans() | st.integers(-64, 64) | st.floats() | st.text(max_size=8)
VALUES = SMALL | st.lists(SMALL, max_size=3) | st.dictionaries(st.text(max_size=8), SMALL)


KINDS = {
    "policy": (GPTNeoXForCausalLM, AutoModelForCausalLM),
    "reward": (GPTNeoXForSequenceClassification, AutoModelForSequenceClassification),
}
IN_FILE = {"lm_head.weight": "embed_out.weight"}  # Pythia's name of it


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a policy's and a reward model's folder, each with a tokenizer."""
    root = tmp_path_factory.mktemp("models")
    for name, (kind, _) in KINDS.items():
        kind(model_config()).save_pretrained(root / name)
        save_tokenizer(root / name)
    return root


def check_model(folder):
    """Load a folder: it is refused, or each weight is the file's."""
    loaded = []

    def load():
        kind, vocabulary = KINDS[folder.name][1], len(WORDS)
        loaded.append(load_model(kind, folder, vocabulary_tokens=vocabulary, dtype=torch.float32))

    if refusal(load) is None:
        stored = load_file(folder / WEIGHTS)
        for name, weight in loaded[0].state_dict().items():
            expected = stored[IN_FILE.get(name, name)].to(torch.float32)
            torch.testing.assert_close(weight, expected, rtol=0, atol=0, equal_nan=True)


def copy_of(folders, name, tmp_path_factory):
    return shutil.copytree(folders / name, tmp_path_factory.mktemp("damaged") / name)


MODEL_FILES = st.sampled_from(["config.json", WEIGHTS, "generation_config.json"])


@fuzz(25)
@given(kind=st.sampled_from(sorted(KINDS)), file=MODEL_FILES, damage=DAMAGE)
def test_damaged_files(folders, tmp_path_factory, kind, file, damage):
    folder = copy_of(folders, kind, tmp_path_factory)
    with suppress(FileNotFoundError):  # a reward model has no generation_config.json
        damage(folder / file)
    check_model(folder)
    shutil.rmtree(folder.parent)


@fuzz(25)
@given(kind=st.sampled_from(sorted(KINDS)), data=st.data())
def test_other_values_in_the_configuration(folders, tmp_path_factory, kind, data):
    folder = copy_of(folders, kind, tmp_path_factory)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name in data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=2)):
        if data.draw(st.booleans()):
            config[name] = data.draw(VALUES)
        else:
            config.pop(name, None)
    path.write_text(json.dumps(config))
    check_model(folder)
    shutil.rmtree(folder.parent)


@fuzz(25)
@given(kind=st.sampled_from(sorted(KINDS)), data=st.data())
def test_missing_and_other_tensors(folders, tmp_path_factory, kind, data):
    folder = copy_of(folders, kind, tmp_path_factory)
    tensors = load_file(folder / WEIGHTS)
    for name in data.draw(st.lists(st.sampled_from(sorted(tensors)), min_size=1, max_size=3)):
        if name not in tensors:
            continue
        match data.draw(st.sampled_from(["gone", "flat", "longer", "renamed", "half", "scalar"])):
            case "gone":
                del tensors[name]
            case "flat":
                tensors[name] = tensors[name].flatten()
            case "longer":
                tensors[name] = tensors[name].repeat(2, *[1] * (tensors[name].dim() - 1))
            case "renamed":
                tensors[f"{name}_"] = tensors.pop(name)
            case "half":
                tensors[name] = tensors[name].half()
            case "scalar":
                tensors[name] = tensors[name].flatten()[:1].clone()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    check_model(folder)
    shutil.rmtree(folder.parent)


@fuzz(25)
@given(
    file=st.sampled_from(["tokenizer.json", "tokenizer_config.json", "config.json"]),
    damage=DAMAGE | FLIPS,
)
def test_damaged_tokenizers(folders, tmp_path_factory, file, damage):
    folder = copy_of(folders, "policy", tmp_path_factory)
    damage(folder / file)
    loaded = []
    if refusal(lambda: loaded.append(load_pretrained(AutoTokenizer, folder))) is None:
        assert len(loaded[0]) >= 0
    shutil.rmtree(folder.parent)
