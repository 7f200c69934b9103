"""Presets: scales from a laptop's CPU to the paper's.

| preset | models | task | where, time | may speak about |
|---|---|---|---|---|
| smoke | GPT-NeoX, 30k parameters | tldr_tiny, small | CPU, seconds | that the code runs |
| tiny | GPT-NeoX 0.1M, 0.4M | tldr_tiny | CPU, minutes | mechanisms |
| small | Pythia 410M | TL;DR | 1 GPU, hours | directions |
| paper | Pythia 410M (1B, 2.8B) | TL;DR | several GPUs, days | the paper's claims |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import algorithms, paths
from bench.algorithms.base import Algorithm
from bench.config import EvalConfig, RunConfig, StageConfig
from bench.errors import UserError
from bench.experiments.stage_configs import smoke_stage, tiny_stage, tldr_stage
from bench.experiments.tuned import RECORDED, Tuned, read_tuned
from bench.staleness import ON_POLICY, Schedule
from bench.tasks import task_config

ORDER = ("smoke", "tiny", "small", "paper")
# Algorithms whose episode is a completion, not a prompt, in the authors' code.
EPISODE_IS_COMPLETION = ("rloo", "rloo_vanilla", "copg")
PUBLISHED = ("ppo", "rloo", "rloo_vanilla", "copg", "online_dpo", "online_ipo", "best_of_2")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The settings of a scale. A figure adds the algorithms, schedules and seeds."""

    name: str
    seeds: int  # a script's default; 0, 1, ...
    models: tuple[str, ...]  # the first is the default
    n_values: tuple[int, ...]  # mini-batches per generation round
    verdicts: bool
    stage_of: Callable[[str], StageConfig]
    run_of: Callable[[StageConfig, Algorithm, Schedule], RunConfig]  # what all algorithms share
    completions_per_prompt: Mapping[str, int] = field(default_factory=dict)  # not the default's
    published: tuple[str, ...] = ()  # algorithms that run at the authors' hyper-parameters
    gpus: int = 0  # of each run, where they are allotted
    engine: str = "hf"
    task: str | None = None  # in place of the preset's own, at its default parameters
    tuned: Mapping[str, Tuned] = field(default_factory=dict)  # by algorithm
    # By other sizes than the first, which may have choices of their own; then by algorithm.
    tuned_by_size: Mapping[str, Mapping[str, Tuned]] = field(default_factory=dict)

    def key_of(self, model: str | None = None) -> str:
        """Return the name of a size's choices in a file of them. They are for one task.

        Those of the first size have the preset's name, as they are for all sizes without their own.
        """
        key = self.name if self.task is None else f"{self.name}:{self.task}"
        return key if model in (None, self.models[0]) else f"{key}/{model}"

    def choice(self, algorithm: str, model: str | None = None) -> Tuned | None:
        """Return what was chosen for an algorithm at a size, or else at the preset's first."""
        own = self.tuned_by_size.get(model or self.models[0], {})
        return own.get(algorithm, self.tuned.get(algorithm))

    def tuned_at(self, algorithm: str, model: str) -> str | None:
        """Return the other size at which the choice was made that a size runs at, if it was."""
        own = model == self.models[0] or algorithm in self.tuned_by_size.get(model, {})
        return None if own or algorithm not in self.tuned else self.models[0]

    def stage(self, model: str | None = None) -> StageConfig:
        """Return what a policy of this size starts from.

        Raises:
            UserError: the preset has no such size, or there is no such task.
        """
        model = model or self.models[0]
        if model not in self.models:
            raise UserError(f"model {model!r}: preset {self.name} has {', '.join(self.models)}")
        stage = self.stage_of(model)
        return stage if self.task is None else replace(stage, task=task_config(self.task)())

    def algorithm(self, name: str, model: str | None = None) -> Algorithm:
        """Return an algorithm with its hyper-parameters at this preset and size.

        Raises:
            UserError: there is none of that name, or a tuned value is out of range.
        """
        params: dict[str, Any] = {}
        if name in self.completions_per_prompt:
            params["completions_per_prompt"] = self.completions_per_prompt[name]
        if (chosen := self.choice(name, model)) is not None:
            params |= chosen.algorithm_params
        return algorithms.build(name, params)

    def run_config(
        self,
        algorithm: str,
        schedule: Schedule,
        *,
        model: str | None = None,
        seed: int = 0,
        **overrides: Any,
    ) -> RunConfig:
        """Return the run of one algorithm under one schedule, hyper-parameters as tuned at N = 1.

        Raises:
            UserError: a value is out of range; see ``RunConfig``.
        """
        config = self.run_of(self.stage(model), self.algorithm(algorithm, model), schedule)
        if (chosen := self.choice(algorithm, model)) is not None:
            config = replace(config, learning_rate=chosen.learning_rate)
        return replace(config, engine=self.engine, seed=seed, **overrides)

    def is_tuned(
        self,
        algorithm: str,
        learning_rate: float,
        algorithm_params: Mapping[str, Any],
        model: str | None = None,
    ) -> bool:
        """Return whether a run has the hyper-parameters that were chosen for its algorithm.

        They were chosen by the search at N = 1 or, at the paper's scale, by the authors.

        Args:
            algorithm: its name.
            learning_rate: of the run.
            algorithm_params: as ``Algorithm.identity`` gives them.
            model: the run's size, which may have no choice of its own, or be none of the preset's.
        """
        if self.choice(algorithm, model) is None and algorithm not in self.published:
            return False
        known = model if model in self.models else None
        chosen = self.run_config(algorithm, ON_POLICY, model=known)
        expected = chosen.learning_rate, chosen.algorithm.identity()
        return (learning_rate, algorithm_params) == expected


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
    makers = {"smoke": _smoke, "tiny": _tiny, "small": _small, "paper": _paper}
    if name not in makers:
        raise UserError(f"preset {name!r}: allowed are {', '.join(ORDER)}")
    found = makers[name]()
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
        dtype="bfloat16",
        evaluation=EvalConfig(every=64, prompts=4096, max_completion_tokens=128),
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


def _small() -> Preset:
    def run_of(stage: StageConfig, algorithm: Algorithm, schedule: Schedule) -> RunConfig:
        return replace(
            _tldr_run(stage, algorithm, schedule, updates=64),
            prompts_per_batch=128,
            lr_schedule="per_update",
            evaluation=EvalConfig(every=16, prompts=512, max_completion_tokens=128),
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
