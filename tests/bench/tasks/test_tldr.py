"""The paper's task on a local directory of the hub's layout: tiny data, tiny random models."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import (
    GPTNeoXForCausalLM,
    GPTNeoXForSequenceClassification,
    PreTrainedTokenizerFast,
)

from bench import hub
from bench.errors import UserError
from bench.tasks.tldr import DATASET, GOLD_MODEL, STAGE_MODELS, TldrConfig
from bench.types import Prompt

from ..stand_ins import EOS, WORDS, model_config, save_tokenizer, write_rows

TLDR = WORDS.index("TL;DR:")
PARAMS = {"max_prompt_tokens": 4, "tuning_prompts": 2, "gold_batch_size": 2}

VALIDATION = [
    ("a b b TL;DR:", f" c d{EOS}"),  # 4 tokens: just short enough
    ("a a a a TL;DR:", f" a{EOS}"),  # 5 tokens: too long
    ("c TL;DR:", " e"),  # EOS not written out
]
TRAIN = [
    ("a TL;DR:", f" a{EOS}"),
    ("c TL;DR:", f" b{EOS}"),  # also in validation
    ("b TL;DR:", f" b{EOS}"),
    ("a a TL;DR:", f" c{EOS}"),
    ("b TL;DR:", f" d{EOS}"),  # twice in train
    ("b b TL;DR:", f" d{EOS}"),
]


@pytest.fixture
def hub_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a hub directory with the data set, the tokenizer and the judge; return it."""
    monkeypatch.setenv(hub.HUB_DIR, str(tmp_path))
    data = tmp_path / DATASET / "data"
    write_rows(data / "train-00000-of-00002.parquet", TRAIN[:4])
    write_rows(data / "train-00001-of-00002.parquet", TRAIN[4:])
    write_rows(data / "validation-00000-of-00001.parquet", VALIDATION)
    write_rows(data / "test-00000-of-00001.parquet", [("f TL;DR:", f" f{EOS}")])

    sft_dir = tmp_path / STAGE_MODELS["410m"][0]
    save_tokenizer(sft_dir)
    GPTNeoXForCausalLM(model_config()).save_pretrained(sft_dir)

    torch.manual_seed(0)
    GPTNeoXForSequenceClassification(model_config()).save_pretrained(tmp_path / GOLD_MODEL)
    return tmp_path


def build(**overrides: object):
    return TldrConfig(**{**PARAMS, **overrides}).build()


def token_ids(prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
    return [prompt.token_ids for prompt in prompts]


@pytest.mark.usefixtures("hub_dir")
def test_prompts_are_tokenised_filtered_and_split():
    task = build()
    assert token_ids(task.prompts("eval")) == [(4, 5, 5, TLDR), (6, TLDR)]
    # Of 6 train rows, "c" is in validation and the second "b" a repetition; tuning has the last 2.
    assert token_ids(task.prompts("train")) == [(4, TLDR), (5, TLDR)]
    assert token_ids(task.prompts("tuning")) == [(4, 4, TLDR), (5, 5, TLDR)]


@pytest.mark.usefixtures("hub_dir")
def test_prompt_ids_are_the_rows_of_the_data_set():
    task = build()
    ids = [[p.prompt_id for p in task.prompts(s)] for s in ("train", "tuning", "eval")]
    assert ids == [[0, 2], [3, 5], [10**9, 10**9 + 2]]


@pytest.mark.usefixtures("hub_dir")
def test_references_end_with_one_eos():
    task = build()
    # " c d<eos>" and " e"; EOS is token 0.
    assert task.references(task.prompts("eval")) == [(6, 7, 0), (8, 0)]
    assert task.references(task.prompts("tuning")[1:]) == [(7, 0)]
    assert task.references([]) == []


def test_gold_reward_is_the_judges_score_at_the_last_token(hub_dir):
    task = build()
    prompts = [Prompt(i, (4, 5, TLDR)[i % 2 :]) for i in range(5)]
    completions = [(6, 7, 0), (4,), (), (4, 4, 4, 4, 0), (0,)]
    judge = GPTNeoXForSequenceClassification.from_pretrained(hub_dir / GOLD_MODEL).eval()
    with torch.no_grad():  # one row at a time, without padding
        expected = [
            judge.score(judge.gpt_neox(torch.tensor([[*p.token_ids, *c]])).last_hidden_state)[
                0, -1, 0
            ].item()
            for p, c in zip(prompts, completions, strict=True)
        ]
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(task.gold_rewards(prompts, completions), expected, atol=1e-5)


def test_stage_models_are_the_folders_of_their_hub_ids(hub_dir):
    sft, reward = STAGE_MODELS["410m"]
    GPTNeoXForSequenceClassification(model_config()).save_pretrained(hub_dir / reward)
    assert TldrConfig().released("410m") == (str(hub_dir / sft), str(hub_dir / reward))


def test_stage_models_are_the_papers_on_the_hub(monkeypatch):
    monkeypatch.delenv(hub.HUB_DIR, raising=False)
    assert TldrConfig().released("2.8b") == (
        "mnoukhov/pythia2.8b-sft-tldr",
        "mnoukhov/pythia2.8b-rm-tldr6.9b",
    )


def test_stage_models_refuses_other_sizes():
    with pytest.raises(UserError, match=r"tldr model '7b': allowed are 410m, 1b, 2\.8b"):
        TldrConfig().released("7b")


def test_ceiling_is_unknown_and_needs_no_data():
    assert TldrConfig().win_rate_ceiling("eval", 4096) is None


@pytest.mark.parametrize("name", ["max_prompt_tokens", "tuning_prompts", "gold_batch_size"])
def test_build_refuses_numbers_below_one(name):
    with pytest.raises(UserError, match=f"{name} = 0: must be >= 1"):
        TldrConfig(**{name: 0})


def test_build_names_a_missing_split(hub_dir):
    (file,) = (hub_dir / DATASET / "data").glob("validation-*")
    file.unlink()
    with pytest.raises(UserError, match=rf"{DATASET}: has no data/validation-\*\.parquet"):
        build()


def test_build_names_missing_columns(hub_dir):
    (file,) = (hub_dir / DATASET / "data").glob("validation-*")
    pq.write_table(pa.table({"query": ["a TL;DR:"], "summary": ["a"]}), file)
    with pytest.raises(
        UserError, match=f"{file}: no column reference_response; .* has query, summary"
    ):
        build()


@pytest.mark.parametrize("name", ["query", "reference_response"])
def test_build_refuses_a_column_that_is_not_text(hub_dir, name):
    (file,) = (hub_dir / DATASET / "data").glob("validation-*")
    columns = {"query": ["a TL;DR:"], "reference_response": ["a"], name: [[1, 2]]}
    pq.write_table(pa.table(columns), file)
    with pytest.raises(UserError) as raised:
        build()
    kind = "list<element: int64>"
    assert str(raised.value) == f"{file}: column {name} is of type {kind}, must be string"


@pytest.mark.parametrize(
    ("row", "column"), [((None, " a"), "query"), (("a TL;DR:", None), "reference_response")]
)
def test_prompts_refuses_a_null(hub_dir, row, column):
    (file,) = (hub_dir / DATASET / "data").glob("validation-*")
    write_rows(file, [("b TL;DR:", " a"), row])
    with pytest.raises(UserError, match=rf"validation row 1: {column} is null, must be text$"):
        build().prompts("eval")


def test_build_names_a_truncated_file(hub_dir):
    (file,) = (hub_dir / DATASET / "data").glob("validation-*")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=f"{file}: "):
        build()


def test_build_names_a_missing_judge(hub_dir):
    (hub_dir / GOLD_MODEL / "config.json").unlink()
    with pytest.raises(UserError, match=rf"{GOLD_MODEL}: has no config\.json"):
        build()


def test_build_refuses_a_tokenizer_that_pads_with_eos(hub_dir):
    source = hub_dir / STAGE_MODELS["410m"][0]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(source)
    tokenizer.pad_token = EOS
    tokenizer.save_pretrained(source)
    with pytest.raises(UserError, match="needs a padding token that is not EOS"):
        build()


def test_prompts_refuses_a_query_without_its_end(hub_dir):
    (file,) = (hub_dir / DATASET / "data").glob("validation-*")
    write_rows(file, [("a TL;DR:", " a"), ("a b", " a")])
    with pytest.raises(UserError, match="validation row 1: query must end with 'TL;DR:'"):
        build().prompts("eval")


@pytest.mark.usefixtures("hub_dir")
def test_prompts_refuses_a_tuning_split_that_leaves_no_train_split():
    with pytest.raises(UserError, match="tuning_prompts = 4: must be below the 4 prompts"):
        build(tuning_prompts=4).prompts("train")


def test_gold_rewards_refuses_a_model_without_a_score_head(hub_dir):
    GPTNeoXForCausalLM(model_config()).save_pretrained(hub_dir / GOLD_MODEL)
    with pytest.raises(
        UserError, match=rf"{GOLD_MODEL}: its \*\.safetensors have no score\.weight"
    ):
        build().gold_rewards([Prompt(0, (4, TLDR))], [(0,)])


def test_gold_rewards_refuses_a_smaller_vocabulary(hub_dir):
    GPTNeoXForSequenceClassification(model_config(8)).save_pretrained(hub_dir / GOLD_MODEL)
    with pytest.raises(UserError, match=r"vocabulary of 8 tokens, must be at least .* 10"):
        build().gold_rewards([Prompt(0, (4, TLDR))], [(0,)])


def test_gold_rewards_names_damaged_weights(hub_dir):
    (hub_dir / GOLD_MODEL / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match=f"{GOLD_MODEL}: "):
        build().gold_rewards([Prompt(0, (4, TLDR))], [(0,)])
