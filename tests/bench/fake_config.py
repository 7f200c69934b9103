"""Configurations that name no real task or algorithm."""

from dataclasses import dataclass
from typing import ClassVar

from bench.algorithms.base import Algorithm
from bench.stage_config import StageConfig
from bench.tasks.base import TaskConfig


@dataclass(frozen=True, kw_only=True)
class FakeTaskConfig(TaskConfig):
    """A task that is never built."""

    name: ClassVar[str] = "fake"


STAGE = StageConfig(task=FakeTaskConfig(), model="fake")


@dataclass(frozen=True, kw_only=True)
class FakeAlgorithm(Algorithm):
    """An algorithm of any name, which is never trained."""

    name: str = "fake"

    def prepare(self, inputs):
        raise NotImplementedError

    def loss(self, outputs, batch):
        raise NotImplementedError
