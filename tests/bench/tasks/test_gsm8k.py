"""GSM8K on a local directory of the hub's layout: a few problems, a tiny Llama, bytes as tokens."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bench import hub
from bench.config import EvalConfig
from bench.errors import UserError
from bench.experiments.presets import preset
from bench.loop import train
from bench.stages import find
from bench.staleness import ON_POLICY
from bench.tasks.gsm8k import DATASET, SFT_MODELS, Gsm8kConfig, answer
from bench.types import Prompt

UNK, BOS, EOS = "<unk>", "<s>", "</s>"  # ids 0, 1, 2; Llama's tokenizer has no padding token
SFT = SFT_MODELS["1b"]
CLIPS = "48/2 = <<48/2=24>>24 clips in May.\n#### 24"
TEST = [("How many clips?", CLIPS), ("How much is left?", "It is $1,080.\n#### 1,080")]
TRAIN = [
    ("Who?", "2\n#### 2"),
    ("How many clips?", "3\n#### 3"),  # also in test
    ("When?", "-4\n#### -4"),
    ("Who?", "5\n#### 5"),  # twice in train
    ("What is asked here is longer than it may be", "6\n#### 6"),
    ("Why?", "7.5\n#### 7.5"),
]


def tokenizer() -> PreTrainedTokenizerFast:
    """Return one with a token per byte, that puts BOS first, as Llama's does."""
    symbols = sorted(ByteLevel.alphabet())
    words = Tokenizer(BPE({s: i for i, s in enumerate([UNK, BOS, EOS, *symbols])}, []))
    words.pre_tokenizer = ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token=UNK, bos_token=BOS, eos_token=EOS
    )


def write(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    questions, answers = zip(*rows, strict=True)
    pq.write_table(pa.table({"question": questions, "answer": answers}), path)


@pytest.fixture
def hub_dir(tmp_path, monkeypatch):
    """Use a hub directory with the data set, the SFT model and its tokenizer; return it."""
    monkeypatch.setenv(hub.HUB_DIR, str(tmp_path))
    write(tmp_path / DATASET / "main/train-00000-of-00001.parquet", TRAIN)
    write(tmp_path / DATASET / "main/test-00000-of-00001.parquet", TEST)
    write(tmp_path / DATASET / "socratic/test-00000-of-00001.parquet", [("No?", "#### 0")])
    tokenizer().save_pretrained(tmp_path / SFT)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(vocab_size=259, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                    num_attention_heads=2, max_position_embeddings=128)
    ).save_pretrained(tmp_path / SFT)  # fmt: skip
    return tmp_path


def build(**changes):
    # "[MATH_TASK] Problem:\n" and "\n\nSolution:" are 21 + 11 bytes: BOS and 27 of the question
    return Gsm8kConfig(**{"max_prompt_tokens": 60, "tuning_prompts": 1, **changes}).build()


def test_prompts_are_the_authors_with_bos_and_no_eos(hub_dir):
    del hub_dir
    task = build()
    texts = [
        [task.tokenizer.decode(list(p.token_ids)) for p in task.prompts(s)]
        for s in ("train", "tuning", "eval")
    ]
    asked = [["Who?", "When?"], ["Why?"], ["How many clips?", "How much is left?"]]
    assert texts == [
        [f"<s>[MATH_TASK] Problem:\n{question}\n\nSolution:" for question in split]
        for split in asked
    ]
    ids = [[p.prompt_id for p in task.prompts(s)] for s in ("train", "tuning", "eval")]
    assert ids == [[0, 2], [5], [10**9, 10**9 + 1]]  # rows of the data set


def test_references_are_the_worked_solutions_and_right(hub_dir):
    del hub_dir
    task = build()
    prompts = [*task.prompts("eval"), *task.prompts("train"), *task.prompts("tuning")]
    references = task.references(prompts)
    assert task.tokenizer.decode(list(references[0])) == f"{CLIPS}</s>"
    assert {reference.count(2) for reference in references} == {1}
    assert task.gold_rewards(prompts, references).tolist() == [1] * 5
    assert task.references([]) == []


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("#### 1080</s>", 1),  # with or without the comma
        ("So:\n#### 1,080</s>", 1),
        ("#### 1080.</s>", 1),
        ("#### 1080", 1),  # unfinished
        ("#### 1080</s>#### 2", 1),
        ("#### 1080 #### 2</s>", 1),  # the first one counts
        ("#### 2 #### 1080</s>", 0),
        ("</s>#### 1080", 0),  # what follows EOS does not count
        ("#### 1080.0</s>", 0),  # as text
        ("#### -1080</s>", 0),
        ("####1080</s>", 0),
        ("#### $1080</s>", 0),
        ("1080</s>", 0),
        ("", 0),
    ],
)
def test_the_reward_is_one_where_the_first_number_is_the_data_sets(hub_dir, text, reward):
    del hub_dir
    task = build()
    completion = task.tokenizer(text, add_special_tokens=False)["input_ids"]
    prompt = Prompt(10**9 + 1, (1,))  # "#### 1,080"; the split need not have been read
    assert task.gold_rewards([prompt], [completion]).tolist() == [reward]


def test_an_answer_is_text():
    assert [answer(t) for t in ("#### -3.5", "#### 12,345,678", "it is 3")] == [
        "-3.5", "12345678", None,
    ]  # fmt: skip


def test_the_win_rate_is_the_share_of_right_answers(hub_dir):
    del hub_dir
    assert build().outcomes(np.array([1.0, 0.0]), np.ones(2)).tolist() == [1, 0]
    assert Gsm8kConfig().win_rate_ceiling("eval", 1319) == 1


def test_padding_is_the_unknown_token_unless_the_tokenizer_has_its_own(hub_dir):
    assert build().tokenizer.pad_token == UNK
    own = tokenizer()
    own.pad_token = BOS
    own.save_pretrained(hub_dir / SFT)
    assert build().tokenizer.pad_token == BOS


def test_a_tokenizer_that_could_only_pad_with_eos_is_refused(hub_dir):
    without = tokenizer()
    without.unk_token = None
    without.save_pretrained(hub_dir / SFT)
    with pytest.raises(UserError, match=f"tokenizer of {hub_dir / SFT}: needs a padding"):
        build()


def test_the_only_size_is_the_released_one(hub_dir, monkeypatch):
    assert Gsm8kConfig().released("1b") == (str(hub_dir / SFT), None)
    with pytest.raises(UserError, match=r"^gsm8k model '410m': allowed are 1b$"):
        Gsm8kConfig().released("410m")
    monkeypatch.delenv(hub.HUB_DIR)
    assert Gsm8kConfig().released("1b") == ("realtreetune/rho-1b-sft-GSM8K", None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("Who?", "2\n#### 2"), ("What?", "2")], "test row 1: answer has no '#### <number>'$"),
        ([("Who?", "2\n#### 2"), (None, "#### 2")], "test row 1: question is null, must be text$"),
    ],
)
def test_a_row_that_is_none_is_named(hub_dir, rows, message):
    write(hub_dir / DATASET / "main/test-00000-of-00001.parquet", rows)
    with pytest.raises(UserError, match=f"^data set openai/gsm8k, {message}"):
        build().prompts("eval")


def test_other_columns_are_named(hub_dir):
    path = hub_dir / DATASET / "main/test-00000-of-00001.parquet"
    pq.write_table(pa.table({"query": ["Who?"]}), path)
    with pytest.raises(UserError, match="no column question, answer; must have question, answer"):
        build()


def test_a_tuning_split_that_leaves_no_train_split_is_refused(hub_dir):
    del hub_dir
    with pytest.raises(UserError, match="tuning_prompts = 3: must be below the 3 prompts"):
        build(tuning_prompts=3).prompts("train")
    with pytest.raises(UserError, match=r"gsm8k parameter tuning_prompts = 0: must be >= 1"):
        Gsm8kConfig(tuning_prompts=0)


def test_the_papers_preset_is_the_authors_on_this_task_alone():
    chosen = preset("paper", task="gsm8k")
    run = chosen.run_config("online_dpo", ON_POLICY)
    assert run.stage.task == Gsm8kConfig()
    assert (run.stage.model, run.stage.params) == ("1b", None)
    # 512 updates of 252 prompts, best and worst of 4 completions of 512 tokens; no EOS penalty
    assert (run.updates, run.prompts_per_batch, run.learning_rate) == (512, 252, 3e-6)
    assert (run.algorithm.completions_per_prompt, run.algorithm.beta) == (4, 0.1)
    assert (run.max_completion_tokens, run.missing_eos_penalty) == (512, None)
    assert (run.temperature, run.max_grad_norm, run.evaluation.prompts) == (0.7, 1.0, 1319)
    assert run.evaluation.max_completion_tokens is None  # 512 too
    assert chosen.is_tuned("online_dpo", run.learning_rate, run.algorithm.identity())
    assert chosen.key_of() == "paper:gsm8k"


@pytest.mark.parametrize("algorithm", ["online_dpo", "ppo"])  # PPO has a value model of its own
def test_a_run_goes_through_without_a_reward_model(hub_dir, algorithm):
    del hub_dir
    run = preset("paper", task="gsm8k").run_config(algorithm, ON_POLICY)
    task = Gsm8kConfig(max_prompt_tokens=60, tuning_prompts=1)
    run = replace(
        run,
        stage=replace(run.stage, task=task),
        updates=2,
        prompts_per_batch=2,
        max_completion_tokens=6,
        dtype="float32",
        evaluation=EvalConfig(every=1, prompts=2, samples=1),
    )
    models = find(run.stage, 0, [])
    assert models.reward_dir is None
    result = train(run, models)
    assert result.status == "completed"
    assert [step.completion_tokens for step in result.steps] != [0, 0]
    assert [e.win_rate_n for e in result.evals] == [2, 2, 2]
    assert {one.outcome for one in result.outcomes} <= {"win", "loss"}
