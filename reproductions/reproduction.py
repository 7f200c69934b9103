"""The definition of one figure or table: its grid of runs and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.config import RunConfig
from bench.experiments.preset import Preset
from bench.experiments.presets import ORDER, preset
from plots.analysis.frames import Record
from reproductions.options import Grid, Options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIMS = Path(__file__).with_name("claims.toml")


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """One figure or table of the paper."""

    name: str
    caption: str
    grid: Grid = lambda options: []  # noqa: ARG005
    # What tells runs of one algorithm apart, as "T = 2", where N does not.
    arm: Callable[[RunConfig, Preset], str] | None = None
    # What tells them apart at each N: a series of its own, called as in "ppo (decoupled)".
    series: Callable[[RunConfig], str] | None = None
    draw: Callable[[Record], Figure] | None = None
    tabulate: Callable[[Record, Options], pd.DataFrame] | None = None
    export: Callable[[Record, Path], list[Path]] | None = None  # other files, into a directory
    every_seed: bool = True  # False: the result does not depend on the seed
    measure: Callable[[Options], None] | None = None  # in place of the runs of a grid
    read: Callable[[Path], Record | None] | None = None  # reads what was measured from a directory
    presets: tuple[str, ...] = ORDER  # where it can be made
    tasks: Mapping[str, str] = field(default_factory=dict)  # its own at a preset, if not the usual
    ranks: tuple[str, ...] = (
        "algorithm",
    )  # columns of ``Record.final`` that name what it compares

    def asked(self, options: Options) -> Options:
        """Return the options with its own task, unless the user names one.

        Raises:
            UserError: a file of the task's tuned hyper-parameters cannot be read.
        """
        usual = options.preset
        if usual.task is not None or usual.name not in self.tasks:
            return options
        own = preset(usual.name, options.out, self.tasks[usual.name])
        return replace(options, preset=replace(own, engine=usual.engine))

    def arms(self, runs: Sequence[RunConfig], scale: Preset) -> dict[str, str]:
        """Return the arm of each cell by ``config_hash``; none where there are no arms."""
        if self.arm is None:
            return {}
        return {run.config_hash(): self.arm(run, scale) for run in runs}

    def names(self, runs: Sequence[RunConfig]) -> dict[str, str]:
        """Return the series of each cell by ``config_hash``; none where algorithms are enough."""
        if self.series is None:
            return {}
        return {run.config_hash(): self.series(run) for run in runs}

    def apart(self, runs: Sequence[RunConfig], scale: Preset) -> dict[str, dict[str, str]]:
        """Return what ``loading.load`` tells runs of one algorithm apart by."""
        return {"arms": self.arms(runs, scale), "series": self.names(runs)}
