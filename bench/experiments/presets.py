"""Presets: one dial from a laptop's CPU to the paper's scale. Imports no torch.

| preset | models | task | where, time | may speak about |
|---|---|---|---|---|
| smoke | GPT-NeoX, 30k parameters | tldr_tiny, small | CPU, seconds | that the code runs |
| tiny | GPT-NeoX 0.1M, 0.4M | tldr_tiny | CPU, minutes | mechanisms |
| small | Pythia 410M | TL;DR | 1 GPU, hours | directions |
| paper | Pythia 410M (1B, 2.8B) | TL;DR | several GPUs, days | the paper's claims |
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.config import EvalConfig, RunConfig, StageConfig
from bench.errors import UserError
from bench.experiments.stage_configs import smoke_stage, tiny_stage, tldr_stage
from bench.staleness import Schedule

TUNED = Path(__file__).with_name("tuned.toml")  # written by bench.tuning
ORDER = ("smoke", "tiny", "small", "paper")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything about a scale that is not the question a figure asks."""

    name: str
    seeds: int  # a script's default; 0, 1, ...
    models: tuple[str, ...]  # the first is the default
    n_values: tuple[int, ...]  # mini-batches per generation round
    verdicts: bool
    stage_of: Callable[[str], StageConfig]
    run: Mapping[str, Any]  # RunConfig fields shared by all algorithms
    gpus: int = 0  # of each run, where they are allotted
    per_algorithm: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def stage(self, model: str | None = None) -> StageConfig:
        """Return what a policy of this size starts from.

        Raises:
            UserError: the preset has no such size.
        """
        model = model or self.models[0]
        if model not in self.models:
            raise UserError(f"model {model!r}: preset {self.name} has {', '.join(self.models)}")
        return self.stage_of(model)

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
        fields: dict[str, Any] = {
            **self.run,
            **self.per_algorithm.get(algorithm, {}),
            **tuned(self.name).get(algorithm, {}),
            **overrides,
        }
        return RunConfig(
            stage=self.stage(model), algorithm=algorithm, schedule=schedule, seed=seed, **fields
        )


def tuned(preset_name: str) -> dict[str, dict[str, Any]]:
    """Return the hyper-parameters that the search at N = 1 chose, by algorithm."""
    if not TUNED.exists():
        return {}
    found: dict[str, dict[str, Any]] = tomllib.loads(TUNED.read_text()).get(preset_name, {})
    return found


def preset(name: str) -> Preset:
    """Return a preset by name.

    Raises:
        UserError: there is none of that name.
    """
    makers = {"smoke": _smoke, "tiny": _tiny, "small": _small, "paper": _paper}
    if name not in makers:
        raise UserError(f"preset {name!r}: allowed are {', '.join(ORDER)}")
    return makers[name]()


def _smoke() -> Preset:
    return Preset(
        name="smoke",
        seeds=2,
        models=("smoke",),
        n_values=(1, 4),
        verdicts=False,
        stage_of=smoke_stage,
        run={
            "updates": 4,
            "prompts_per_batch": 8,
            "learning_rate": 3e-4,
            "max_completion_tokens": 16,
            "evaluation": EvalConfig(every=2, prompts=32),
        },
        per_algorithm={"ppo": {"algorithm_params": {"completions_per_prompt": 2}}},
    )


def _tiny() -> Preset:
    return Preset(
        name="tiny",
        seeds=3,
        models=("0.1m", "0.4m"),
        n_values=(1, 2, 4, 8, 16, 32, 64),
        verdicts=True,
        stage_of=tiny_stage,
        run={
            "updates": 128,
            "prompts_per_batch": 64,
            "learning_rate": 2e-4,
            "max_completion_tokens": 20,
            "evaluation": EvalConfig(every=16, prompts=512),
        },
        # Two completions of each prompt for every algorithm, so that all see the same number of
        # completions per update; the authors give PPO one (their episode is a prompt).
        per_algorithm={"ppo": {"algorithm_params": {"completions_per_prompt": 2}}},
    )


# The authors' TL;DR hyper-parameters: AdamW, 3e-6 linear, temperature 0.7, 256 updates of 512
# prompts, response length 53 in every training config, 128 in evaluation at temperature 0.01.
_TLDR_RUN = {
    "updates": 256,
    "prompts_per_batch": 512,
    "learning_rate": 3e-6,
    "lr_schedule": "per_round",
    "max_completion_tokens": 53,
    "missing_eos_penalty": -1.0,
    "microbatch_rows": 32,
    "dtype": "bfloat16",
    "evaluation": EvalConfig(every=64, prompts=4096, max_completion_tokens=128),
}
_TLDR_ALGORITHMS: dict[str, dict[str, Any]] = {
    # An RLOO episode is a completion: 256 prompts of 2 in the authors' code.
    name: {"prompts_per_batch": 256}
    for name in ("rloo", "rloo_vanilla", "copg")
}


def _paper() -> Preset:
    return Preset(
        name="paper",
        seeds=3,
        models=("410m", "1b", "2.8b"),
        n_values=(1, 2, 4, 8, 16, 32, 64),
        verdicts=True,
        stage_of=tldr_stage,
        run=_TLDR_RUN,
        gpus=1,
        per_algorithm=_TLDR_ALGORITHMS,
    )


def _small() -> Preset:
    run = {
        **_TLDR_RUN,
        "updates": 64,
        "prompts_per_batch": 128,
        "lr_schedule": "per_update",
        "evaluation": EvalConfig(every=16, prompts=512, max_completion_tokens=128),
    }
    return Preset(
        name="small",
        seeds=3,
        models=("410m",),
        n_values=(1, 4, 16, 64),
        verdicts=True,
        stage_of=tldr_stage,
        run=run,
        gpus=1,
        per_algorithm={},
    )
