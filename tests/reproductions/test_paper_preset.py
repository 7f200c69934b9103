"""Preset ``small`` as it is, by its own script, on tiny stand-ins for its models and data.

Nothing of the preset is changed: hub ids, dtype, micro-batches, evaluation and judge are its own.
Preset ``paper`` takes the same way.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import GPTNeoXForSequenceClassification

from bench import hub
from bench.experiments.presets import preset
from bench.records import store
from bench.staleness import reuse
from bench.tasks.tldr import DATASET, GOLD_MODEL, STAGE_MODELS
from reproductions import run as script
from reproductions.fig_offpolicy_ppo import REPRODUCTION

from ..bench.stand_ins import EOS, WORDS, save_all

ROOT = Path(__file__).parents[2]
SMALL = preset("small").run_config("ppo", reuse(1))


def run(*arguments, **environment):
    """Run the script of figure 3 at preset small, one seed, N = 1."""
    command = [
        "reproductions/fig_offpolicy_ppo.py",
        "--preset",
        "small",
        "--seeds",
        "1",
        "--n",
        "1",
    ]
    return subprocess.run(
        [sys.executable, *command, "--workers", "1", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.fixture(scope="module")
def hub_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    save_all(root)
    return root


@pytest.fixture(scope="module")
def done(hub_dir, tmp_path_factory):
    """Run the script once; return its results directory and what it printed."""
    results = tmp_path_factory.mktemp("small") / "results"
    process = run("--hub-dir", hub_dir, "--out", results)
    assert (process.returncode, process.stderr) == (0, "")
    return results, process.stdout


@pytest.mark.slow
def test_a_run_is_named_by_what_it_computes_not_by_where_files_are(done, hub_dir):
    row = store.read(done[0], "runs").iloc[0]
    weights = b"".join(
        (hub_dir / name / "model.safetensors").read_bytes() for name in STAGE_MODELS["410m"]
    )
    digest = hashlib.sha256(weights).hexdigest()[:12]
    assert row["weights_digest"] == digest
    assert (row["config_hash"], row["run_id"]) == (SMALL.config_hash(), SMALL.run_id(digest))
    assert json.loads(row["config_json"])["stage"] == {
        "task": "tldr",
        "task_params": {"max_prompt_tokens": 512, "tuning_prompts": 4096, "gold_batch_size": 16},
        "model": "410m", "params": {}, "seed": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_a_run_is_done_wherever_its_files_are_next_time(done, hub_dir, tmp_path):
    elsewhere = shutil.copytree(hub_dir, tmp_path / "elsewhere")
    again = run("--out", done[0], **{hub.HUB_DIR: str(elsewhere)})
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.splitlines()[0] == "1 of 1 cells are already done"


@pytest.mark.slow
def test_evaluation_is_the_presets_own(done):
    evals = store.read(done[0], "evals")
    # 64 updates of 128 prompts, one completion each; evaluated every 16 updates on 512 prompts
    assert evals["step"].tolist() == [0, 16, 32, 48, 64]
    assert evals["completions"].tolist() == [0, 2048, 4096, 6144, 8192]
    assert set(evals["win_rate_n"]) == {512}
    assert ((evals["win_rate"] * 2 * 512) % 1 == 0).all()
    # Before training the policy is the SFT model, but in float32 and the reference in bfloat16:
    # what rounding to 8 bits leaves over some 50 tokens. Other weights are tens of nats away.
    assert abs(evals["kl_nats"].iloc[0]) < 0.02
    # evaluated up to 128 tokens, trained on up to 53
    assert 53 < evals["completion_tokens_mean"].iloc[0] <= 128
    steps = store.read(done[0], "steps")
    assert steps["completion_tokens"].max() <= 128 * 53
    assert steps["learning_rate"].iloc[[0, -1]].tolist() == [3e-6 * 63 / 64, 0.0]


@pytest.mark.slow
def test_completions_and_references_are_judged_by_the_gold_model(done, hub_dir):
    judge = GPTNeoXForSequenceClassification.from_pretrained(hub_dir / GOLD_MODEL).eval()

    def score(prompt, completion):
        """Read the judge at the last token of one row, without padding."""
        tokens = [WORDS.index(word) for word in f"{prompt} {completion}".split()]
        with torch.no_grad():
            hidden = judge.gpt_neox(torch.tensor([tokens])).last_hidden_state
            return judge.score(hidden)[0, -1, 0].item()

    samples = store.read(done[0], "samples")
    assert len(samples) == 8
    for row in samples.itertuples():
        assert row.prompt.endswith("TL;DR:")
        assert row.reference.endswith(EOS)
        assert row.gold == pytest.approx(score(row.prompt, row.completion), abs=1e-4)
        assert row.reference_gold == pytest.approx(score(row.prompt, row.reference), abs=1e-4)
        if not row.completion.endswith(EOS):
            assert row.reward == -1.0  # the missing-EOS penalty, in place of the proxy reward


@pytest.mark.slow
def test_a_single_seed_gets_no_verdict(done):
    assert "0 of 5 seeds complete" in done[1]
    assert f"Data: {done[0]} (1 of 1 cells, 1 runs)" in done[1]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (DATASET, f"{DATASET}: has no data/train-*.parquet; put the files of {DATASET} there"),
        (STAGE_MODELS["410m"][0], "pythia410m-sft-tldr: has no tokenizer.json; put"),
        (STAGE_MODELS["410m"][1], "pythia410m-rm-tldr6.9b: has no config.json; put"),
        (GOLD_MODEL, "_pythia-6.9b-deduped__reward__tldr: has no config.json; put"),
    ],
)
def test_what_the_hub_directory_lacks_is_named_before_anything_is_lost(
    hub_dir, tmp_path, gone, message, monkeypatch, capsys
):
    monkeypatch.setenv(hub.HUB_DIR, "")
    partial = shutil.copytree(hub_dir, tmp_path / "partial")
    shutil.rmtree(partial / gone)
    kept = tmp_path / "results" / "runs" / "a-s0.parquet"
    kept.parent.mkdir(parents=True)
    kept.touch()
    arguments = [
        "--preset",
        "small",
        "--hub-dir",
        partial,
        "--out",
        tmp_path / "results",
        "--fresh",
    ]
    assert script.main([REPRODUCTION], [*map(str, arguments)]) == 2
    output, errors = capsys.readouterr()
    (line,) = errors.splitlines()
    assert line.startswith(f"error: {partial}/")
    assert message in line
    assert output == ""
    assert kept.exists()


def test_paper_has_the_authors_hyper_parameters():
    paper = preset("paper")
    ppo, rloo, online_dpo = (
        paper.run_config(name, reuse(64)) for name in ("ppo", "rloo", "online_dpo")
    )
    assert ppo.updates * ppo.prompts_per_batch == 131_072  # episodes
    assert rloo.prompts_per_batch * 2 == ppo.prompts_per_batch  # an episode is a completion there
    assert online_dpo.prompts_per_batch == 512
    for run in (ppo, rloo, online_dpo):
        assert (run.temperature, run.max_completion_tokens) == (0.7, 53)
        assert (run.missing_eos_penalty, run.max_grad_norm) == (-1.0, None)
        # 4 rounds of 64 updates; the rate is stepped before a round: 3/4, 2/4, 1/4 and none
        rates = [run.learning_rate_at(step) for step in (0, 63, 64, 128, 192, 255)]
        assert rates == pytest.approx([2.25e-6, 2.25e-6, 1.5e-6, 0.75e-6, 0, 0])
    assert (ppo.algorithm.kl_coef, rloo.algorithm.kl_coef) == (0.05, 0.05)
    assert online_dpo.algorithm.beta == 0.1
