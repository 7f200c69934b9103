"""What workers and tasks of the cluster host in tests; imports no test framework."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from ... import fakes
from ..counter import Counter


class Watcher(Counter):
    """Sees its directories."""

    def __init__(self, fails, directory, *needs) -> None:
        super().__init__(**fails)
        self._directory, self._needs = directory, needs

    def listing(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._directory.iterdir()}

    def sizes(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self._directory.iterdir()}

    def directories(self) -> list[Path]:
        return [self._directory, *self._needs]

    def wait_for(self, name: str) -> bool:
        """Return whether a file comes while this call goes on."""
        end = time.monotonic() + 60
        while not (self._directory / name).exists() and time.monotonic() < end:
            time.sleep(0.01)
        return (self._directory / name).exists()


@dataclass(frozen=True)
class Models:
    """As ``bench.types.StageModels``, without importing torch."""

    sft_dir: Path
    reward_dir: Path
    digest: str = "0123456789ab"


@dataclass(frozen=True)
class Execute:
    """What a task does, by the name of the algorithm; ``record`` remembers what was begun."""

    record: Path

    def __call__(self, directory, job, on_progress) -> None:
        run, models = job.payload.config, job.payload.models
        first = not list(self.record.glob(f"{job.log_name}-*"))
        (self.record / f"{job.log_name}-{os.getpid()}-{time.time_ns()}").touch()
        for step in range(run.updates):
            on_progress(step + 1, 0.5)
        fakes.misbehave(run.algorithm, first=first)
        weights = (models.sft_dir / "weights").read_text() + (
            models.reward_dir / "weights"
        ).read_text()
        fakes.write(directory, run, fakes.status(run.algorithm), git_revision=weights)


def tag_engine(model_dir):
    """Return an engine that needs no model."""
    from ...hosts import TagEngine  # imports torch

    del model_dir
    return TagEngine()
