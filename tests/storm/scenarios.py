"""What the storm runs: real commands at preset ``smoke``, and their undisturbed results."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.paths import CHECKPOINTS, ROOT

from .processes import ENGINE, MAIN, MARK, TRAINER, WORKER


@dataclass(frozen=True)
class Scenario:
    """A command, and what can be hit while it runs."""

    name: str
    command: tuple[str, ...]
    kinds: tuple[str, ...]
    tables: str = "."  # where its runs are, in the results directory
    has_checkpoints: bool = True  # else it trains SFT and reward model first


SCENARIOS = (
    Scenario(
        "stages",
        ("reproductions/fig_offpolicy_ppo.py", "--seeds", "1", "--workers", "2"),
        (MAIN, TRAINER, TRAINER, WORKER),
        has_checkpoints=False,
    ),
    Scenario(
        "inline",
        ("reproductions/fig_offpolicy_robustness.py", "--seeds", "1", "--workers", "2"),
        (MAIN, WORKER, WORKER),
    ),
    Scenario(
        "overlapped",
        (
            "-m", "bench.train", "--algorithm", "ppo", "--schedule", "lag(1)", "--updates", "64",
            "--evaluation.every", "16",
            "--execution.source", "overlapped", "--execution.checkpoint-every", "1",
        ),
        (MAIN, WORKER, ENGINE, ENGINE),
    ),
    Scenario("timed", ("reproductions/fig_schedule.py",), (MAIN, WORKER, ENGINE, ENGINE)),
    Scenario(
        "tuning",
        ("-m", "bench.tuning", "--algorithms", "online_dpo", "--workers", "2"),
        (MAIN, WORKER, WORKER),
        tables="tuning",
    ),
)  # fmt: skip


def choose(names: Sequence[str]) -> list[Scenario]:
    """Return scenarios by name."""
    return [one for one in SCENARIOS if one.name in names]


class Sandbox:
    """A directory of its own for one scenario: its results and its temporary files."""

    def __init__(self, scenario: Scenario, directory: Path, checkpoints: Path | None) -> None:
        """Make it, with a copy of ``checkpoints`` if there are any."""
        self.scenario = scenario
        self.directory = directory
        self.results = directory / "results"
        self.temporary = directory / "tmp"
        self.errors = directory / "stderr"  # of the latest command
        self.temporary.mkdir(parents=True)
        if checkpoints is not None:
            shutil.copytree(checkpoints, self.results / CHECKPOINTS)

    def start(self, mark: str) -> subprocess.Popen[bytes]:
        """Start the command; all its processes have the mark."""
        with self.errors.open("wb") as errors:
            return subprocess.Popen(
                [
                    sys.executable, *self.scenario.command,
                    "--preset", "smoke", "--out", str(self.results),
                ],
                cwd=ROOT,
                env={
                    **os.environ,
                    MARK: mark,
                    "TMPDIR": str(self.temporary),
                    "PYTHONPATH": str(ROOT),
                    "OMP_NUM_THREADS": "1",
                    "MPLBACKEND": "agg",
                    "HF_HUB_OFFLINE": "1",
                    "TOKENIZERS_PARALLELISM": "false",
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """The results of a command that nobody disturbed."""

    scenario: Scenario
    results: Path
    wall_s: float
    temporary_names: frozenset[str]  # what libraries leave anyway


def undisturbed(scenario: Scenario, directory: Path, checkpoints: Path | None) -> Reference:
    """Run a command to its end.

    Raises:
        RuntimeError: it fails.
    """
    sandbox = Sandbox(scenario, directory, checkpoints if scenario.has_checkpoints else None)
    start = time.monotonic()
    if (status := sandbox.start("reference").wait()) != 0:
        raise RuntimeError(f"{scenario.name}: status {status}: {sandbox.errors.read_text()}")
    wall_s = time.monotonic() - start
    names = frozenset(path.name for path in sandbox.temporary.iterdir())
    return Reference(scenario, sandbox.results, wall_s, names)
