"""What workers of the cluster host in tests; imports no test framework."""

import time
from dataclasses import dataclass
from pathlib import Path

from ..counter import Counter


class Watcher(Counter):
    """Sees its directories."""

    def __init__(self, fails, *directories) -> None:
        super().__init__(**fails)
        self._directories = directories
        self._directory = directories[0] if directories else None

    def listing(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._directory.iterdir()}

    def sizes(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self._directory.iterdir()}

    def directories(self) -> list[Path]:
        return list(self._directories)

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
    sft_digest: str = "ba9876543210"


def tag_engine(model_dir):
    """Return an engine that needs no model."""
    from ...hosts import TagEngine  # imports torch

    del model_dir
    return TagEngine()
