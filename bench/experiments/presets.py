"""Presets: scales from a laptop's CPU to the paper's.

| preset | models | task | where, time | may speak about |
|---|---|---|---|---|
| smoke | GPT-NeoX, 30k parameters | tldr_tiny, small | CPU, seconds | that the code runs |
| tiny | GPT-NeoX 0.1M, 0.4M | tldr_tiny | CPU, minutes | mechanisms |
| worth | GPT-NeoX 0.06M, 0.1M, 0.4M | tldr_worth | CPU, minutes | mechanisms, with headroom |
| small | Pythia 410M | TL;DR | 1 GPU, hours | directions |
| paper | Pythia 410M (1B, 2.8B) | TL;DR | several GPUs, days | the paper's claims |
| paper | Rho-1B | gsm8k, where it is asked for | several GPUs, hours | the paper's claims |

At some tasks, where they are asked for, there is more of its own: ``worth`` at ``chat_worth`` has a
longer SFT, ``paper`` at ``no_robots`` has Llama 3.1 8B and the authors' hyper-parameters for it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench import paths
from bench.algorithms.base import Algorithm
from bench.config import EvalConfig, RunConfig
from bench.errors import UserError
from bench.experiments.preset import Preset
from bench.experiments.stage_configs import (
    chat_stage,
    gsm8k_stage,
    no_robots_stage,
    smoke_stage,
    tiny_stage,
    tldr_stage,
    worth_stage,
)
from bench.experiments.tuned import RECORDED, Tuned, read_tuned
from bench.stage_config import StageConfig
from bench.staleness import Schedule
from bench.tasks import task_config

ORDER = ("smoke", "tiny", "worth", "small", "paper")
# Algorithms whose episode is a completion, not a prompt, in the authors' code.
EPISODE_IS_COMPLETION = ("rloo", "rloo_vanilla", "copg")
PUBLISHED = ("ppo", "rloo", "rloo_vanilla", "copg", "online_dpo", "online_ipo", "best_of_2")


def preset(name: str, results_dir: Path | None = None, task: str | None = None) -> Preset:
    """Return a preset by name, with the hyper-parameters chosen for it.

    Args:
        name: of the preset.
        task: in place of the preset's own, at its default parameters.
        results_dir: has the user's own choices, which replace the recorded ones;
            None: the preset's default results directory.

    Raises:
        UserError: there is none of that name, or a file of choices cannot be read.
    """
    makers = {"smoke": _smoke, "tiny": _tiny, "worth": _worth, "small": _small, "paper": _paper}
    if name not in makers:
        raise UserError(f"preset {name!r}: allowed are {', '.join(ORDER)}")
    at_task = {
        ("worth", "chat_worth"): _worth_chat,
        ("paper", "gsm8k"): _paper_gsm8k,
        ("paper", "no_robots"): _paper_no_robots,
    }
    found = at_task.get((name, task or ""), makers[name])()
    if task is not None and task_config(task) is not type(found.stage().task):
        found = replace(found, task=task, published=())
    own = (results_dir or paths.results_dir(name)) / paths.TUNED
    recorded, users = read_tuned(RECORDED), read_tuned(own)

    def chosen(model: str) -> dict[str, Tuned]:
        key = found.key_of(model)
        return recorded.get(key, {}) | users.get(key, {})

    first, *others = found.models
    return replace(
        found, tuned=chosen(first), tuned_by_size={model: chosen(model) for model in others}
    )


def _smoke() -> Preset:
    def run_of(stage: StageConfig, algorithm: Algorithm, schedule: Schedule) -> RunConfig:
        return RunConfig(
            stage=stage,
            algorithm=algorithm,
            schedule=schedule,
            updates=4,
            prompts_per_batch=8,
            learning_rate=3e-4,
            max_completion_tokens=16,
            evaluation=EvalConfig(every=2, prompts=32),
        )

    return Preset(
        name="smoke",
        seeds=2,
        models=("smoke",),
        n_values=(1, 4),
        verdicts=False,
        stage_of=smoke_stage,
        run_of=run_of,
        completions_per_prompt={"ppo": 2},
    )


def _tiny() -> Preset:
    def run_of(stage: StageConfig, algorithm: Algorithm, schedule: Schedule) -> RunConfig:
        return RunConfig(
            stage=stage,
            algorithm=algorithm,
            schedule=schedule,
            updates=128,
            prompts_per_batch=64,
            learning_rate=2e-4,
            max_completion_tokens=20,
            evaluation=EvalConfig(every=16, prompts=512),
        )

    return Preset(
        name="tiny",
        seeds=3,
        models=("0.1m", "0.4m"),
        n_values=(1, 2, 4, 8, 16, 32, 64),
        verdicts=True,
        stage_of=tiny_stage,
        run_of=run_of,
        # Two completions of each prompt for every algorithm, so that all see the same number of
        # completions per update; the authors give PPO one (their episode is a prompt).
        completions_per_prompt={"ppo": 2},
    )


def _worth() -> Preset:
    def run_of(stage: StageConfig, algorithm: Algorithm, schedule: Schedule) -> RunConfig:
        return RunConfig(
            stage=stage,
            algorithm=algorithm,
            schedule=schedule,
            updates=256,
            prompts_per_batch=32,
            learning_rate=1e-4,
            max_completion_tokens=20,
            evaluation=EvalConfig(every=16, prompts=512),
        )

    return Preset(
        name="worth",
        seeds=5,
        models=("0.06m", "0.1m", "0.4m"),
        # With as many mini-batches as updates all data are generated once: offline training.
        n_values=(1, 2, 4, 8, 16, 32, 64, 256),
        verdicts=True,
        stage_of=worth_stage,
        run_of=run_of,
        completions_per_prompt={"ppo": 2},  # as in preset tiny
    )


def _worth_chat() -> Preset:
    return replace(_worth(), task="chat_worth", stage_of=chat_stage)


def _tldr_run(
    stage: StageConfig, algorithm: Algorithm, schedule: Schedule, updates: int = 256
) -> RunConfig:
    """Return a run with the authors' TL;DR hyper-parameters.

    AdamW, 3e-6 linear, temperature 0.7, 256 updates of 512 prompts, response length 53 in every
    training config, 128 in evaluation at temperature 0.01.
    """
    return RunConfig(
        stage=stage,
        algorithm=algorithm,
        schedule=schedule,
        updates=updates,
        prompts_per_batch=256 if algorithm.name in EPISODE_IS_COMPLETION else 512,
        learning_rate=3e-6,
        lr_schedule="per_round",
        max_completion_tokens=53,
        missing_eos_penalty=-1.0,
        microbatch_rows=32,
        engine_rows=256,
        dtype="bfloat16",
        evaluation=EvalConfig(every=64, prompts=4096, max_completion_tokens=128, rows=128),
    )


def _paper() -> Preset:
    return Preset(
        name="paper",
        seeds=3,
        models=("410m", "1b", "2.8b"),
        n_values=(1, 2, 4, 8, 16, 32, 64),
        verdicts=True,
        stage_of=tldr_stage,
        run_of=_tldr_run,
        published=PUBLISHED,
        gpus=1,
    )


def _paper_gsm8k() -> Preset:
    """Return preset ``paper`` with the authors' hyper-parameters on GSM8K.

    AdamW, 3e-6 linear, temperature 0.7, gradients clipped at norm 1, 512 updates of 252 prompts,
    4 completions of each. Evaluated on all of the test split.
    """

    def run_of(stage: StageConfig, algorithm: Algorithm, schedule: Schedule) -> RunConfig:
        return RunConfig(
            stage=stage,
            algorithm=algorithm,
            schedule=schedule,
            updates=512,
            prompts_per_batch=252,
            learning_rate=3e-6,
            max_completion_tokens=512,
            missing_eos_penalty=None,
            max_grad_norm=1.0,
            microbatch_rows=16,
            dtype="bfloat16",
            evaluation=EvalConfig(every=128, prompts=1319),
        )

    return Preset(
        name="paper",
        seeds=3,
        models=("1b",),
        n_values=(1, 2, 4, 8, 16, 32, 64),
        verdicts=True,
        stage_of=gsm8k_stage,
        run_of=run_of,
        completions_per_prompt=dict.fromkeys(("ppo", "rloo", "online_dpo"), 4),
        published=("ppo", "rloo", "online_dpo"),
        gpus=1,
        task="gsm8k",
    )


def _paper_no_robots() -> Preset:
    """Return preset ``paper`` with the authors' hyper-parameters on No Robots.

    AdamW, 8e-7 linear, temperature 0.7, 100,000 episodes in updates of 256 prompts, responses of up
    to 1024 tokens, -10 for one that does not end, Online DPO with beta 0.03. Evaluated on all of
    the test split.
    """

    def run_of(stage: StageConfig, algorithm: Algorithm, schedule: Schedule) -> RunConfig:
        return RunConfig(
            stage=stage,
            algorithm=algorithm,
            schedule=schedule,
            updates=390,  # 100,000 / 256
            prompts_per_batch=256,
            learning_rate=8e-7,
            max_completion_tokens=1024,
            missing_eos_penalty=-10.0,
            microbatch_rows=1,
            dtype="bfloat16",
            evaluation=EvalConfig(every=78, prompts=500),
        )

    return Preset(
        name="paper",
        seeds=3,
        models=("8b",),
        n_values=(1, 2, 4, 8, 16, 32, 64),
        verdicts=True,
        stage_of=no_robots_stage,
        run_of=run_of,
        algorithm_params={"online_dpo": {"beta": 0.03}},
        published=("online_dpo",),
        gpus=1,
        task="no_robots",
    )


def _small() -> Preset:
    def run_of(stage: StageConfig, algorithm: Algorithm, schedule: Schedule) -> RunConfig:
        return replace(
            _tldr_run(stage, algorithm, schedule, updates=64),
            prompts_per_batch=128,
            lr_schedule="per_update",
            evaluation=EvalConfig(every=16, prompts=512, max_completion_tokens=128, rows=128),
        )

    return Preset(
        name="small",
        seeds=3,
        models=("410m",),
        n_values=(1, 4, 16, 64),
        verdicts=True,
        stage_of=tldr_stage,
        run_of=run_of,
        published=PUBLISHED,
        gpus=1,
    )
