"""Runs at Weights & Biases (extra ``[wandb]``): finished ones, or as they go. Imports no torch.

wandb itself is imported by what sends, so nothing else needs it. The Parquet tables remain the
record.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from bench.config import RunConfig
from bench.errors import UserError
from bench.types import Records, RunResult

PROJECT = "async-rlhf-bench"
MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")  # that wandb knows

Mode = Literal["online", "offline"]  # offline writes to the folder ``wandb`` and sends nothing
Send = Callable[[Records | RunResult], None]


def require(mode: Mode | None = None) -> None:
    """Refuse what can be known before anything is sent.

    Args:
        mode: online or offline; None: as the variable ``WANDB_MODE`` says.

    Raises:
        UserError: wandb is not installed, ``WANDB_MODE`` is none of its modes, or there is no API
            key to go online with.
    """
    if find_spec("wandb") is None:
        raise UserError("wandb is not installed: install the extra [wandb]")
    if (said := os.environ.get("WANDB_MODE", "online")) not in MODES:
        raise UserError(f"WANDB_MODE = {said!r}: allowed are {', '.join(MODES)}")
    if mode == "online":
        import wandb

        with _one_line():
            wandb.login()


def history(
    steps: Iterable[Mapping[Any, Any]], evals: Iterable[Mapping[Any, Any]]
) -> dict[int, dict[str, float]]:
    """Return one run's numbers by updates done: ``train/...`` of its steps, ``eval/...``.

    The algorithm's own metrics are among those of the steps. Missing values are left out.

    Args:
        steps: rows of table ``steps``.
        evals: rows of table ``evals``.
    """
    found: dict[int, dict[str, float]] = {}
    for row in steps:
        _add(found.setdefault(int(row["step"]) + 1, {}), "train", {**row, **row["metrics"]})
    for row in evals:
        _add(found.setdefault(int(row["step"]), {}), "eval", row)
    return dict(sorted(found.items()))


def _add(target: dict[str, float], prefix: str, row: Mapping[Any, Any]) -> None:
    left_out = ("run_id", "step", "metrics")
    target.update(
        {
            f"{prefix}/{name}": float(value)
            for name, value in row.items()
            if name not in left_out and pd.notna(value)
        }
    )


def log(sent: Any, steps: Iterable[Mapping[Any, Any]], evals: Iterable[Mapping[Any, Any]]) -> None:
    """Log rows of the tables to an opened run. Its x axis is the number of updates done."""
    for updates, row in history(steps, evals).items():
        sent.log(row, step=updates)


@contextmanager
def opened(
    run_id: str,
    run: Mapping[Any, Any],
    cell: Mapping[str, Any],
    *,
    project: str = PROJECT,
    mode: Mode | None = None,
) -> Iterator[Any]:
    """Open a run and yield it. It keeps its ``run_id``: sending it twice does not duplicate it.

    Args:
        run_id: of the run.
        run: columns of its row of table ``runs``; those of ``identity`` at least.
        cell: its configuration, as ``RunConfig.cell`` gives it.
        project: where it goes.
        mode: see ``require``.

    Raises:
        UserError: wandb refuses.
    """
    with _opened(
        project=project,
        id=run_id,
        name=f"{run['algorithm']} {run['schedule']} {run['model']} seed {run['seed']}",
        group=str(run["config_hash"]),
        config={**cell, "run": dict(run)},
        mode=mode,
    ) as sent:
        yield sent


@contextmanager
def following(config: RunConfig, run_id: str, mode: Mode | None) -> Iterator[Send]:
    """Yield what sends the rows of a run in progress, each once; nothing if ``mode`` is None.

    Raises:
        UserError: wandb refuses.
    """
    if mode is None:
        yield lambda measured: None  # noqa: ARG005
        return
    steps = evals = 0  # sent so far
    with opened(run_id, identity(config), config.cell(), mode=mode) as sent:

        def send(measured: Records | RunResult) -> None:
            nonlocal steps, evals
            log(sent, map(asdict, measured.steps[steps:]), map(asdict, measured.evals[evals:]))
            steps, evals = len(measured.steps), len(measured.evals)

        yield send


def identity(config: RunConfig) -> dict[str, Any]:
    """Return the columns of table ``runs`` by which a run is named and grouped."""
    return {
        "algorithm": config.algorithm.name,
        "schedule": str(config.schedule),
        "model": config.stage.model,
        "seed": config.seed,
        "config_hash": config.config_hash(),
    }


def send_figure(name: str, preset: str, path: Path, mode: Mode) -> None:
    """Send a figure, as a run of its own.

    Args:
        name: of the figure.
        preset: of its runs.
        path: of its PNG.
        mode: see ``require``.

    Raises:
        UserError: wandb refuses.
    """
    import wandb

    title = f"{name} {preset}"
    with _opened(
        project=PROJECT, id=f"{name}-{preset}", name=title, job_type="figure", mode=mode
    ) as sent:
        sent.log({name: wandb.Image(str(path))})


@contextmanager
def _opened(**options: Any) -> Iterator[Any]:
    import wandb

    settings = wandb.Settings(silent=True, console="off")  # output is the console's and the logs'
    with _one_line(), wandb.init(resume="allow", settings=settings, **options) as sent:
        yield sent


@contextmanager
def _one_line() -> Iterator[None]:
    """Make what wandb refuses one line."""
    import wandb

    try:
        yield
    except wandb.errors.Error as error:
        raise UserError(f"wandb: {' '.join(str(error).split())}") from error
