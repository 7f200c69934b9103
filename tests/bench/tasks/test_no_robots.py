"""The chatbot's data on a local directory of the hub's layout: tiny data, a tiny random judge."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import GPTNeoXForSequenceClassification, PreTrainedTokenizerFast

from bench import hub
from bench.errors import UserError
from bench.experiments.presets import preset
from bench.staleness import ON_POLICY
from bench.tasks.no_robots import DATASET, JUDGE, STAGE_MODELS, NoRobots, NoRobotsConfig, chat
from bench.types import Prompt

from ..stand_ins import model_config

EOS, PAD = "<eos>", "<pad>"
#           0    1    2        3             4             5                6..11
WORDS = [EOS, PAD, "[UNK]", "<|system|>", "<|user|>", "<|assistant|>", *"abcdef"]
JUDGES = ["[UNK]", "Q:", "A:", *"fedcba"]  # other ids for the same words
TEMPLATE = (
    "{% for m in messages %}{{ 'A: ' if m['role'] == 'assistant' else 'Q: ' }}"
    "{{ m['content'] }} {% endfor %}"
)
TRAIN = ["a -> b", "b c -> d", "a -> c", "d d d d -> e", "c -> f", "e -> a", "f -> b"]
TEST = ["s: f | a b -> c d", "e -> f", "a -> b | c -> d", "d d d d d d -> e"]


def conversation(text: str) -> list[dict[str, str]]:
    """Return messages: "s: ..." is the system's, "x -> y" what is asked and answered."""
    messages = []
    for turn in text.split(" | "):
        if turn.startswith("s: "):
            messages.append({"content": turn[3:], "role": "system"})
        else:
            asked, answered = turn.split(" -> ")
            messages.append({"content": asked, "role": "user"})
            messages.append({"content": answered, "role": "assistant"})
    return messages


def write_rows(path: Path, rows: list[list[dict[str, str]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {
        "prompt": [row[0]["content"] for row in rows],
        "prompt_id": [f"{i:064x}" for i in range(len(rows))],
        "messages": rows,
        "category": ["Open QA"] * len(rows),
    }
    pq.write_table(pa.table(table), path)


def save_tokenizer(directory: Path, words: list[str], **special: str) -> None:
    level = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    level.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=level, unk_token="[UNK]", **special)
    if "eos_token" not in special:
        tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(directory)


@pytest.fixture
def hub_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a hub directory with the data set, the tokenizer and the judge; return it."""
    monkeypatch.setenv(hub.HUB_DIR, str(tmp_path))
    data = tmp_path / DATASET / "data"
    write_rows(data / "train-00000-of-00001.parquet", [conversation(row) for row in TRAIN])
    write_rows(data / "test-00000-of-00001.parquet", [conversation(row) for row in TEST])
    save_tokenizer(tmp_path / STAGE_MODELS["8b"][0], WORDS, eos_token=EOS, pad_token=PAD)
    torch.manual_seed(0)
    judge = GPTNeoXForSequenceClassification(model_config(vocab_size=len(JUDGES)))
    judge.save_pretrained(tmp_path / JUDGE)
    save_tokenizer(tmp_path / JUDGE, JUDGES)
    return tmp_path


def build(**overrides: int) -> NoRobots:
    task = NoRobotsConfig(**{"max_prompt_tokens": 6, "tuning_prompts": 2, **overrides}).build()
    assert isinstance(task, NoRobots)
    return task


def test_the_format_is_tulus():
    messages = [*conversation("s: be kind | a -> b")[:3], {"role": "user", "content": "c"}]
    assert chat(messages, "<eos>") == (
        "<|system|>\nbe kind\n<|user|>\na\n<|assistant|>\nb<eos>\n<|user|>\nc\n<|assistant|>\n"
    )


@pytest.mark.usefixtures("hub_dir")
def test_prompts_are_tokenised_filtered_and_split():
    task = build()
    # "<|user|> a <|assistant|>": 4 6 5. All of test is evaluated on, however long; an earlier
    # answer ends with EOS.
    assert [p.token_ids for p in task.prompts("eval")] == [
        (3, 11, 4, 6, 7, 5), (4, 10, 5), (4, 6, 5, 7, 0, 4, 8, 5), (4, 9, 9, 9, 9, 9, 9, 5),
    ]  # fmt: skip
    # Of train, the second "a" is a repetition and "e" is in test; tuning has the last two.
    assert [p.token_ids for p in task.prompts("train")] == [
        (4, 6, 5),
        (4, 7, 8, 5),
        (4, 9, 9, 9, 9, 5),
    ]
    assert [p.token_ids for p in task.prompts("tuning")] == [(4, 8, 5), (4, 11, 5)]
    assert [p.token_ids for p in build(max_prompt_tokens=5).prompts("train")] == [
        (4, 6, 5), (4, 7, 8, 5),
    ]  # fmt: skip
    ids = [[p.prompt_id for p in task.prompts(s)] for s in ("train", "tuning", "eval")]
    assert ids == [[0, 1, 3], [4, 6], [10**9 + i for i in range(4)]]


@pytest.mark.usefixtures("hub_dir")
def test_references_are_the_last_messages_and_end_with_one_eos():
    task = build()
    assert task.references(task.prompts("eval")) == [(8, 9, 0), (11, 0), (9, 0), (10, 0)]
    assert task.references([]) == []


def test_gold_reward_is_the_judges_score_of_the_conversation_in_its_own_format(hub_dir):
    task = build()
    prompts = task.prompts("eval")[:3]
    completions = [(8, 9, 0), (11,), (6, 7, 8)]  # "c d", "f" unfinished, "a b c"
    # Q: 1, A: 2, f e d c b a 3..8. "Q: f Q: a b A: c d", "Q: e A: f", "Q: a A: b Q: c A: a b c".
    rows = [[1, 3, 1, 8, 7, 2, 6, 5], [1, 4, 2, 3], [1, 8, 2, 7, 1, 6, 2, 8, 7, 6]]
    judge = GPTNeoXForSequenceClassification.from_pretrained(hub_dir / JUDGE).eval()
    with torch.no_grad():
        expected = [
            judge.score(judge.gpt_neox(torch.tensor([row])).last_hidden_state)[0, -1, 0].item()
            for row in rows
        ]
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(task.gold_rewards(prompts, completions), expected, atol=1e-5)


def test_models_are_public_ones_of_llama_3_1_8b(monkeypatch):
    monkeypatch.delenv(hub.HUB_DIR, raising=False)
    config = NoRobotsConfig()
    assert config.released("8b") == (
        "allenai/Llama-3.1-Tulu-3-8B-SFT", "allenai/Llama-3.1-Tulu-3-8B-RM",
    )  # fmt: skip
    assert config.judge() == "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2"
    assert config.win_rate_ceiling("eval", 500) is None
    with pytest.raises(UserError, match="no_robots model '410m': allowed are 8b"):
        config.released("410m")


def test_preset_paper_has_the_authors_hyper_parameters(monkeypatch, tmp_path):
    monkeypatch.delenv(hub.HUB_DIR, raising=False)
    scale = preset("paper", tmp_path, "no_robots")
    run = scale.run_config("online_dpo", ON_POLICY)
    assert (run.stage.model, run.learning_rate, run.prompts_per_batch) == ("8b", 8e-7, 256)
    assert (run.updates, run.max_completion_tokens, run.missing_eos_penalty) == (390, 1024, -10)
    assert (run.temperature, run.algorithm.beta, run.stage.task.max_prompt_tokens) == (
        0.7,
        0.03,
        512,
    )
    assert 0 <= 100_000 - run.updates * run.prompts_per_batch < 256
    assert scale.is_tuned("online_dpo", 8e-7, run.algorithm.identity(), "8b")
    assert preset("paper", tmp_path).run_config("online_dpo", ON_POLICY).algorithm.beta == 0.1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[]], "train row 0: messages must be an instruction and more"),
        ([conversation("a -> b"), conversation("a -> b")[:1]], "train row 1: messages must be"),
        ([conversation("a -> b")[::-1]], "messages must be an instruction and more, the last by"),
        ([[{"content": "a", "role": "tool"}, *conversation("a -> b")]],
         "row 0: each message must have a content, and a role of system, user, assistant"),
        ([[{"content": None, "role": "user"}, *conversation("a -> b")]], "row 0: each message"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(hub_dir, rows, message):
    write_rows_of = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))
    path = hub_dir / DATASET / "data/train-00000-of-00001.parquet"
    columns = {name: [""] * len(rows) for name in ("prompt", "prompt_id", "category")}
    pq.write_table(pa.table({**columns, "messages": pa.array(rows, write_rows_of)}), path)
    with pytest.raises(UserError, match=message):
        build().prompts("train")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"prompt": ["a"]}, "no column prompt_id, messages, category; must have prompt, prompt_id"),
        ({name: ["a"] for name in ("prompt", "prompt_id", "messages", "category")},
         "column messages is of type string, must list role and content"),
    ],
)  # fmt: skip
def test_a_file_of_another_layout_is_refused(hub_dir, table, message):
    pq.write_table(pa.table(table), hub_dir / DATASET / "data/test-00000-of-00001.parquet")
    with pytest.raises(UserError, match=message):
        build()


def test_a_tokenizer_that_does_not_fit_is_refused(hub_dir):
    save_tokenizer(hub_dir / STAGE_MODELS["8b"][0], WORDS, eos_token=EOS, pad_token=EOS)
    with pytest.raises(UserError, match="needs a padding token that is not EOS"):
        build()
    save_tokenizer(hub_dir / STAGE_MODELS["8b"][0], WORDS, eos_token=EOS, pad_token=PAD)
    save_tokenizer(hub_dir / JUDGE, JUDGES, eos_token="f")
    (hub_dir / JUDGE / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=f"{JUDGE}: needs a chat template"):
        build()


@pytest.mark.usefixtures("hub_dir")
def test_numbers_out_of_range_are_refused():
    with pytest.raises(UserError, match="no_robots parameter max_prompt_tokens = 0: must be >= 1"):
        NoRobotsConfig(max_prompt_tokens=0)
    with pytest.raises(UserError, match="tuning_prompts = 5: must be below the 5 prompts of split"):
        build(tuning_prompts=5).prompts("train")
    assert build().prompts("tuning")[0] == Prompt(4, (4, 8, 5))
