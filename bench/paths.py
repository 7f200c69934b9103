"""Where results are kept: a user's own, and the committed record."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of the project
RESULTS = ROOT / "results"
RECORDS = RESULTS / "reference"
CHECKPOINTS = "checkpoints"  # in a results directory: SFT and reward models
UNFINISHED = "unfinished"  # in a results directory: where interrupted runs go on
FIGURES = "figures"
LOGS = "logs"
TUNED = "tuned.toml"  # in a results directory: the user's own choices of hyper-parameters
THROUGHPUT = "throughput"  # in a results directory: what the benchmarks measured


def results_dir(preset: str) -> Path:
    """Return where a user's own runs of a preset are kept."""
    return RESULTS / preset


def record_dir(preset: str) -> Path:
    """Return where the recorded runs of a preset are."""
    return RECORDS / preset
