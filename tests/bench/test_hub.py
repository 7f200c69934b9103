"""Where data sets and models come from."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from bench import hub
from bench.errors import UserError
from bench.paths import ROOT

from .stand_ins import save_tokenizer


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Use an empty hub directory; return it."""
    monkeypatch.setenv(hub.HUB_DIR, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("value", [None, ""])
def test_resolve_hub_is_the_hub_id_without_a_directory(value, monkeypatch):
    monkeypatch.delenv(hub.HUB_DIR, raising=False)
    if value is not None:
        monkeypatch.setenv(hub.HUB_DIR, value)
    assert hub.resolve_hub("org/name") == "org/name"


def test_resolve_hub_is_the_folder_in_the_directory(here):
    touch(here / "org/name/config.json")
    assert hub.resolve_hub("org/name") == str(here / "org/name")


def test_resolve_hub_downloads_nothing_where_a_directory_is_given(here):
    with pytest.raises(UserError, match=rf"{here}/org/name: has no config\.json"):
        hub.resolve_hub("org/name")


def test_use_hub_dir_holds_for_other_working_directories(here, monkeypatch):
    touch(here / "mine/org/name/config.json")
    monkeypatch.chdir(here)
    hub.use_hub_dir(Path("mine"))
    monkeypatch.chdir("/")
    assert hub.resolve_hub("org/name") == f"{here}/mine/org/name"


def test_use_hub_dir_names_a_missing_directory(here):
    with pytest.raises(UserError) as raised:
        hub.use_hub_dir(here / "x")
    assert str(raised.value) == (
        f"hub directory {here}/x: no such directory; allowed are a directory of folders "
        "<owner>/<name>, or none, to download"
    )


def test_dataset_files_are_in_order_and_of_one_split(here):
    names = ["train-00001-of-00002-bb", "train-00000-of-00002-cc", "validation-00000-of-00001"]
    second, first, _ = [touch(here / f"org/name/data/{name}.parquet") for name in names]
    assert hub.dataset_files("org/name", "train") == [first, second]


def test_dataset_files_downloads_the_split(tmp_path, monkeypatch):
    def download(name: str, *, repo_type: str, allow_patterns: str) -> str:
        assert (name, repo_type) == ("org/name", "dataset")
        return str(touch(tmp_path / allow_patterns.replace("*", "0")).parents[1])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    files = hub.dataset_files("org/name", "validation")
    assert files == [tmp_path / "data/validation-0.parquet"]


def test_dataset_files_names_a_split_that_the_hub_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(UserError, match=r"data set org/name: has no data/dev-\*\.parquet"):
        hub.dataset_files("org/name", "dev")


def test_dataset_files_is_one_line_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"^data set org/no-such-set: .*") as raised:
        hub.dataset_files("org/no-such-set", "train")
    assert "\n" not in str(raised.value)


def calls(attribute: str) -> dict[str, list[ast.Call]]:
    """Return the calls of what has a name, by the file that they are in."""
    found: dict[str, list[ast.Call]] = {}
    for folder in ("bench", "plots", "reproductions"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and attribute == (
                    getattr(node.func, "attr", None) or getattr(node.func, "id", None)
                ):
                    found.setdefault(str(path.relative_to(ROOT)), []).append(node)
    return found


def test_only_the_hub_loads_models_and_tokenizers():
    assert {file: len(nodes) for file, nodes in calls("from_pretrained").items()} == {
        "bench/hub.py": 1
    }


def test_vllm_is_told_to_run_no_code_of_a_model_and_to_unpickle_nothing():
    ((call,),) = calls("EngineArgs").values()
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    assert given["trust_remote_code"] == "False"
    assert given["load_format"] == "'safetensors'"


@pytest.fixture
def model_dir(tmp_path, policy) -> Path:
    policy.save_pretrained(tmp_path / "model")
    save_tokenizer(tmp_path / "model")
    return tmp_path / "model"


def edit(config: Path, **fields: object) -> None:
    config.write_text(json.dumps(json.loads(config.read_text()) | fields))


def refusal(load: Callable[[], object]) -> str:
    with pytest.raises(UserError) as raised:
        load()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_load_model_takes_every_weight_from_the_files(model_dir, policy):
    loaded = hub.load_model(AutoModelForCausalLM, model_dir, vocabulary_tokens=16).state_dict()
    assert loaded.keys() == policy.state_dict().keys()
    assert all(loaded[name].equal(weight) for name, weight in policy.state_dict().items())


def test_load_model_names_missing_weights(model_dir):
    message = refusal(lambda: hub.load_model(AutoModelForSequenceClassification, model_dir))
    assert message == f"{model_dir}: its *.safetensors have no score.weight"


def test_load_model_names_three_of_many_missing_weights(model_dir):
    edit(model_dir / "config.json", num_hidden_layers=3)
    message = refusal(lambda: hub.load_model(AutoModelForCausalLM, model_dir))
    first = ["attention.dense.bias", "attention.dense.weight", "attention.query_key_value.bias"]
    names = ", ".join(f"gpt_neox.layers.2.{name}" for name in first)
    assert message == f"{model_dir}: its *.safetensors have no {names} and 9 more"


def test_load_model_lets_weights_be_drawn_that_are_to_be_trained(model_dir):
    model = hub.load_model(
        AutoModelForSequenceClassification, model_dir, untrained=["score.weight"], num_labels=1
    )
    assert model.score.weight.shape == (1, 16)


def test_load_model_names_weights_of_another_shape(model_dir):
    edit(model_dir / "config.json", vocab_size=8)
    message = refusal(lambda: hub.load_model(AutoModelForCausalLM, model_dir))
    assert message == (
        f"{model_dir}: its *.safetensors do not fit its config.json: gpt_neox.embed_in.weight of "
        "[16, 16], not [8, 16], lm_head.weight of [16, 16], not [8, 16]"
    )


def test_load_model_refuses_a_vocabulary_smaller_than_the_tokenizers(model_dir):
    message = refusal(lambda: hub.load_model(AutoModelForCausalLM, model_dir, vocabulary_tokens=17))
    assert message == (f"{model_dir}: vocabulary of 16 tokens, must be at least the tokenizer's 17")


def test_load_model_unpickles_nothing(model_dir, policy):
    (model_dir / "model.safetensors").unlink()
    torch.save(policy.state_dict(), model_dir / "pytorch_model.bin")
    message = refusal(lambda: hub.load_model(AutoModelForCausalLM, model_dir))
    assert message.startswith(f"{model_dir}: Error no file named model.safetensors found")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ('{"model_type": "gpt_n', "not a valid JSON file"),
        ("[]", "Unrecognized model in "),
        ('{"model_type": "gpt_neox", "hidden_size": "x"}', "hidden_size': TypeError: .* got str"),
        ('{"model_type": "gpt_neox", "hidden_act": "none such"}', "KeyError: 'none such'"),
        ('{"model_type": "gpt_neox", "hidden_size": -64}', "RuntimeError: .*negative dimension"),
    ],
)
def test_load_model_is_one_line_about_a_damaged_config(model_dir, config, why):
    (model_dir / "config.json").write_text(config)
    message = refusal(lambda: hub.load_model(AutoModelForCausalLM, model_dir))
    assert message.startswith(f"{model_dir}: ")
    assert re.search(why, message)


def test_load_model_is_one_line_about_damaged_weights(model_dir):
    (model_dir / "model.safetensors").write_bytes(b"damaged")
    message = refusal(lambda: hub.load_model(AutoModelForCausalLM, model_dir))
    assert message.startswith(f"{model_dir}: ")


@pytest.mark.parametrize(("file", "content"), [("tokenizer.json", "{}"), ("config.json", "[]")])
def test_load_pretrained_is_one_line_about_a_damaged_tokenizer(model_dir, file, content):
    (model_dir / file).write_text(content)
    message = refusal(lambda: hub.load_pretrained(AutoTokenizer, model_dir))
    assert message.startswith(f"{model_dir}: ")


@pytest.mark.parametrize(
    ("load", "auto_class", "file", "entry"),
    [
        (hub.load_model, AutoModelForCausalLM, "config.json", "code.Model"),
        (hub.load_pretrained, AutoTokenizer, "tokenizer_config.json", ["code.Tokenizer", None]),
    ],
)
def test_nothing_runs_a_models_own_code_whoever_would_allow_it(
    model_dir, monkeypatch, load, auto_class, file, entry
):
    ran = model_dir / "ran"
    (model_dir / "code.py").write_text(f"open({str(ran)!r}, 'w')")
    edit(model_dir / "config.json", model_type="its own")
    classes = {"AutoConfig": "code.Config", auto_class.__name__: entry}
    edit(model_dir / file, auto_map=classes, tokenizer_class="Its")
    monkeypatch.setattr("builtins.input", lambda _: "y")
    message = refusal(lambda: load(auto_class, model_dir))
    assert message.startswith(f"{model_dir}: The repository {model_dir} contains custom code")
    assert not ran.exists()
