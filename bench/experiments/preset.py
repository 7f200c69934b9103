"""What a preset is: the settings of a scale, from which a figure makes its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench import algorithms
from bench.algorithms.base import Algorithm
from bench.config import RunConfig
from bench.errors import UserError
from bench.experiments.tuned import Tuned
from bench.stage_config import StageConfig
from bench.staleness import ON_POLICY, Schedule
from bench.tasks import task_config


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
    # Further hyper-parameters by algorithm, which what was tuned replaces.
    algorithm_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
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

    def stage(self, model: str | None = None, reward_model: str | None = None) -> StageConfig:
        """Return what a policy of this size starts from, with a reward model of its own or another.

        Raises:
            UserError: the preset has no such size, or there is no such task, or it takes no
                reward model.
        """
        model = model or self.models[0]
        for size, what in ((model, "model"), (reward_model or model, "reward model")):
            if size not in self.models:
                raise UserError(f"{what} {size!r}: preset {self.name} has {', '.join(self.models)}")
        stage = self.stage_of(model)
        if reward_model == model:
            stage = replace(stage, reward_model=None, reward_params=None)
        elif reward_model is not None:
            params = self.stage_of(reward_model).params
            stage = replace(stage, reward_model=reward_model, reward_params=params)
        if self.task is None:
            return stage
        task = task_config(self.task)()
        if task.rule_reward:
            if reward_model is not None:
                raise UserError(
                    f"reward model {reward_model!r}: task {self.task} rewards by a rule, without a "
                    "reward model"
                )
            stage = replace(stage, reward_model=None, reward_params=None, reward_per_seed=False)
        return replace(stage, task=task)

    def algorithm(self, name: str, model: str | None = None) -> Algorithm:
        """Return an algorithm with its hyper-parameters at this preset and size.

        Raises:
            UserError: there is none of that name, or a tuned value is out of range.
        """
        params = dict(self.algorithm_params.get(name, {}))
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
        reward_model: str | None = None,
        seed: int = 0,
        **overrides: Any,
    ) -> RunConfig:
        """Return the run of one algorithm under one schedule, hyper-parameters as tuned at N = 1.

        Raises:
            UserError: a value is out of range; see ``RunConfig``.
        """
        stage = self.stage(model, reward_model)
        config = self.run_of(stage, self.algorithm(algorithm, model), schedule)
        if (chosen := self.choice(algorithm, model)) is not None:
            config = replace(config, learning_rate=chosen.learning_rate)
        if stage.task.rule_reward:  # which says what an unfinished completion is worth
            config = replace(config, missing_eos_penalty=None)
        if self.task is not None and (most := stage.task.reference_tokens) is not None:
            config = replace(config, max_completion_tokens=most)
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
