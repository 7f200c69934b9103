"""What a policy starts from: an SFT model, and the reward model that scores it. Imports no torch.

The two are trained, named and kept apart. A reward model starts from the SFT model of its own size
and learns from that model's samples, so policies of all sizes share it:

    policy 0.1m                     reward model 2m
    sft-0.1m-<hash>                 sft-2m-<hash>  ->  reward-2m-<hash>-s<seed>
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from bench.errors import UserError
from bench.identity import digest
from bench.tasks.base import TaskConfig

MAY_BE_0 = (
    "sft_warmup_steps", "sft_weight_decay",
    "reward_warmup_steps", "reward_weight_decay", "reward_centering",
)  # fmt: skip
# Fields that came later. At their default they are no part of an identity, so that what was made
# before there was such a field keeps its name.
LATER = (
    "sft_adam_beta2", "sft_weight_decay",
    "reward_warmup_steps", "reward_adam_beta2", "reward_weight_decay",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StageParams:
    """Hyper-parameters of the SFT model and of the reward model of one size."""

    sft_steps: int = 4000
    sft_batch_size: int = 128
    sft_learning_rate: float = 3e-3  # cosine
    sft_warmup_steps: int = 100
    sft_adam_beta2: float = 0.999
    sft_weight_decay: float = 0.0
    comparisons: int = 20000
    comparison_temperature: float = 1.0
    max_completion_tokens: int = 20
    reward_epochs: int = 1
    reward_batch_size: int = 128  # comparisons
    reward_learning_rate: float = 1e-3  # cosine
    reward_warmup_steps: int = 0
    reward_adam_beta2: float = 0.999
    reward_weight_decay: float = 0.0
    reward_centering: float = 0.01  # keeps scores near 0, where the missing-EOS penalty is read

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UserError: a number is out of range.
        """
        for name, value in vars(self).items():
            if value < 0 or (value == 0 and name not in MAY_BE_0):
                raise UserError(f"stage parameter {name} = {value}: must be above 0")
            if name.endswith("_beta2") and value >= 1:
                raise UserError(f"stage parameter {name} = {value}: must be below 1")

    def identity(self) -> dict[str, Any]:
        """Return all fields as plain JSON, those of ``LATER`` only where they are no default."""
        return self.sft() | self.reward()

    def sft(self) -> dict[str, Any]:
        """Return the fields of the SFT model, likewise."""
        return {name: value for name, value in self._told() if name.startswith("sft_")}

    def reward(self) -> dict[str, Any]:
        """Return the fields of the reward model, likewise."""
        return {name: value for name, value in self._told() if not name.startswith("sft_")}

    def _told(self) -> list[tuple[str, Any]]:
        return [
            (name, value)
            for name, value in vars(self).items()
            if name not in LATER or value != getattr(StageParams, name)
        ]


@dataclass(frozen=True, kw_only=True)
class SftConfig:
    """An SFT model: where policies and reward models of its size start."""

    task: TaskConfig
    model: str  # its size
    params: StageParams  # of which it has those of SFT
    seed: int  # of its first weights and of the order of its data

    def identity(self) -> dict[str, Any]:
        """Return what decides its weights, as plain JSON."""
        return {
            "task": self.task.name,
            "task_params": asdict(self.task),
            "model": self.model,
            "params": self.params.sft(),
            "seed": self.seed,
        }

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"sft-{_file_name(self.model)}-{digest(self.identity())}"


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """A reward model, trained from an SFT model of its own size on that model's samples."""

    sft: SftConfig
    seed: int  # of comparisons, their prompts and samples; of the head's weights and data order

    @property
    def model(self) -> str:
        """Its size."""
        return self.sft.model

    @property
    def params(self) -> StageParams:
        """Hyper-parameters of its size."""
        return self.sft.params

    def identity(self) -> dict[str, Any]:
        """Return what decides its weights but for its seed, as plain JSON."""
        return {"sft": self.sft.identity(), "params": self.params.reward()}

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"reward-{_file_name(self.model)}-{digest(self.identity())}-s{self.seed}"


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What a policy starts from: the task, its SFT model and the reward model."""

    task: TaskConfig
    model: str  # the policy's size, one that the task knows: "0.1m", "410m"
    reward_model: str | None = None  # the reward model's size; None: the policy's
    # A reward model for each run seed, so that intervals over seeds hold its luck; or one for all.
    reward_per_seed: bool = False
    params: StageParams | None = StageParams()  # None: the task's models are released
    # Of the reward model, and of the SFT model of its size that it starts from; None: ``params``.
    reward_params: StageParams | None = None
    seed: int = 0  # of the SFT models, and of a reward model that all runs share

    def sft(self) -> SftConfig:
        """Return the policy's SFT model.

        Raises:
            UserError: there are no ``params``.
        """
        return self._sft(self.model, self.params)

    def reward(self, run_seed: int) -> RewardConfig | None:
        """Return the reward model of a run, or None where rewards are by rule.

        Raises:
            UserError: there are no ``params``.
        """
        if self.task.rule_reward:
            return None
        sft = self._sft(self.reward_model or self.model, self.reward_params or self.params)
        return RewardConfig(sft=sft, seed=run_seed if self.reward_per_seed else self.seed)

    def released(self) -> tuple[str, str | None] | None:
        """Return where released SFT and reward models are, or None to train them.

        Where rewards are by rule there is no reward model.

        Raises:
            UserError: there is no such size, the hub directory in use lacks a model, or reward
                models are asked for by seed.
        """
        sft = self.task.released(self.model)
        reward = self.task.released(self.reward_model or self.model)
        if sft is None or reward is None:
            return None
        if self.reward_per_seed:
            raise UserError(
                f"task {self.task.name}: its reward models are released, there is none per seed"
            )
        return sft[0], reward[1]

    def identity(self) -> dict[str, Any]:
        """Return all that changes a number, as plain JSON.

        What came later, the reward model's own size and seeds, is left out where it is at its
        default: what was made before keeps its name. ``params`` has nothing of the reward model
        where ``reward_params`` has it.
        """
        params: dict[str, Any] = {}
        if self.params is not None:
            params = self.params.sft() if self.reward_params else self.params.identity()
        later = {
            "reward_model": None if self.reward_model == self.model else self.reward_model,
            "reward_per_seed": self.reward_per_seed or None,
            "reward_params": self.reward_params and self.reward_params.identity(),
        }
        return {
            "task": self.task.name,
            "task_params": asdict(self.task),
            "model": self.model,
            "params": params,
            "seed": self.seed,
            **{name: value for name, value in later.items() if value is not None},
        }

    def hash(self) -> str:
        """Return 12 hex digits that name this configuration."""
        return digest(self.identity())

    def models_key(self, run_seed: int) -> str:
        """Return the name of what a run starts from: runs of one name have the same weights."""
        return models_key(self._identity, run_seed)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return self.identity()  # slow to compute for thousands of runs

    @property
    def sizes(self) -> str:
        """The sizes of the models in words: "0.1m", "0.1m with reward model 2m"."""
        own = self.reward_model in (None, self.model)
        return self.model if own else f"{self.model} with reward model {self.reward_model}"

    def _sft(self, model: str, params: StageParams | None) -> SftConfig:
        if params is None:
            raise UserError(
                f"task {self.task.name}: its models are not released, give stage params"
            )
        return SftConfig(task=self.task, model=model, params=params, seed=self.seed)


def models_key(stage: Mapping[str, Any], run_seed: int) -> str:
    """Return ``StageConfig.models_key`` of the identity of a stage."""
    return digest(stage) + (f"-s{run_seed}" if stage.get("reward_per_seed") else "")


def sft_key(stage: Mapping[str, Any]) -> str:
    """Return the name of the policy's SFT model, of the identity of a stage."""
    params = {name: value for name, value in stage["params"].items() if name.startswith("sft_")}
    shared = ("task", "task_params", "model", "seed")
    return digest({name: stage[name] for name in shared} | {"params": params})


def _file_name(model: str) -> str:
    return model.replace("/", "--")
