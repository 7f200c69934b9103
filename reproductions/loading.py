"""Records from results directories: a grid's runs, and another directory's runs beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config import RunConfig
from bench.errors import UserError
from bench.experiments.arms import timed_arm
from bench.experiments.preset import Preset
from bench.records import foreign, store
from bench.stage_config import models_key, sft_key
from plots.analysis.arms import times
from plots.analysis.frames import TIMES, Record
from plots.analysis.lengths import add_lengths
from reproductions.ceiling import ceiling
from reproductions.options import Options
from reproductions.reproduction import Reproduction

MEASURED = ("run_id", "step", "staleness")  # of every run's steps, all that a record needs


def find_record(
    one: Reproduction, runs: Sequence[RunConfig], options: Options
) -> tuple[Path, Record]:
    """Return the user's runs of a grid; to replot without any, the recorded ones.

    Raises:
        UserError: there are none, or a file cannot be read.
    """
    preset = options.preset
    apart = one.apart(runs, preset)
    if not options.replot and one.read is None:
        record = load(
            options.results_dir, runs, preset, all_seeds=False, columns=one.columns, **apart
        )
        if record.final.empty:
            raise UserError(f"{options.results_dir}: no run of {one.name} has an evaluation")
        return options.results_dir, record
    places = [options.results_dir, *([] if options.out else [options.record_dir])]
    for place in places:
        if one.read is not None:
            if (measured := one.read(place)) is not None:
                return place, measured
        elif store.has_runs(place):
            every = options.seeds is None
            record = load(place, runs, preset, all_seeds=every, columns=one.columns, **apart)
            if len(record.final):
                return place, record
    raise UserError(
        f"--replot: no runs of {one.name} at preset {preset.name} in "
        f"{' or '.join(map(str, places))}; give the command without --replot to run them"
    )


def load(
    results_dir: Path,
    runs: Sequence[RunConfig],
    preset: Preset,
    *,
    all_seeds: bool,
    arms: Mapping[str, str] | None = None,
    series: Mapping[str, tuple[str, ...]] | None = None,
    columns: Sequence[str] = (),
) -> Record:
    """Read the given runs from a results directory, or all seeds of their cells.

    Of runs from several generations of SFT and reward models, those of the latest run's count.

    Args:
        results_dir: where they are.
        runs: a grid's.
        preset: of the grid.
        all_seeds: also those that ``runs`` does not name.
        arms: by ``config_hash``: columns ``arm``, ``generate_s`` and ``train_s`` are added.
        series: by ``config_hash``: what stands for the algorithm in its column. A run of several
            has a row for each.
        columns: of table ``steps``: their means over the first quarter of training are added. Runs
            from before there were such columns are left out.

    Raises:
        UserError: a file cannot be read.
    """
    frame, left_out = foreign.read_runs(results_dir)
    frame = frame.sort_values("started_utc", kind="stable")
    keys = pd.MultiIndex.from_frame(frame[["config_hash", "seed"]])
    wanted = pd.MultiIndex.from_tuples([(run.config_hash(), run.seed) for run in runs])
    chosen = keys.get_level_values(0).isin(wanted.get_level_values(0))
    frame, remarks = newest_weights(frame[chosen if all_seeds else keys.isin(wanted)])
    frame = frame.drop_duplicates(["config_hash", "seed"], keep="last").sort_values("run_id")
    if arms:
        frame = frame.assign(arm=frame["config_hash"].map(arms))
    if series:
        frame = frame.assign(algorithm=frame["config_hash"].map(series)).explode("algorithm")
        frame = frame.reset_index(drop=True)
    if columns:
        early, old = first_quarter(results_dir, frame, columns)
        remarks = (*remarks, *old)
        frame = frame.merge(early, on="run_id")
    record = _record(results_dir, frame, preset, on_purpose=bool(arms or series))
    if unseen := sorted(set(frame["run_id"]) - set(record.final["run_id"])):
        line = f"Left out: {len(unseen)} runs without an evaluation, first {unseen[0]}"
        remarks = (*remarks, line)
    return replace(record, remarks=(*left_out, *remarks, *record.remarks))


def first_quarter(
    results_dir: Path, runs: pd.DataFrame, columns: Sequence[str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return means of columns of ``steps`` by ``run_id``, and a line on runs that have none."""
    steps = store.read(results_dir, "steps", runs["run_id"], ["run_id", "step", *columns])
    steps = steps.merge(runs[["run_id", "updates"]].drop_duplicates(), on="run_id")
    early = steps[steps["step"] < steps["updates"] / 4]
    means = early.groupby("run_id")[list(columns)].mean().dropna(how="all").reset_index()
    if lost := runs["run_id"].nunique() - len(means):
        return means, (f"Left out: {lost} runs without {columns[0]}, from before it was recorded",)
    return means, ()


def newest_weights(runs: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the runs from the newest generation of SFT and reward models, and a line on the rest.

    Of runs whose policies have the same SFT model, those count that start from the weights of the
    newest; of runs that share a reward model as well, likewise. Runs of two seeds that each have a
    reward model of their own are no two generations.

    Args:
        runs: in order of their start. ``sft_digest`` is null where it was not recorded: then the
            digest of both models has to do.
    """
    stages = {text: json.loads(text)["stage"] for text in runs["config_json"].unique()}
    sft = runs["config_json"].map({text: sft_key(stage) for text, stage in stages.items()})
    both = [
        models_key(stages[text], seed)
        for text, seed in zip(runs["config_json"], runs["seed"], strict=True)
    ]
    kept = _newest(runs, "sft_digest", of=sft)
    kept = _newest(kept, "weights_digest", of=pd.Series(both, runs.index))
    old = runs.drop(kept.index)
    if old.empty:
        return runs, ()
    line = (
        f"Left out: {len(old)} runs from older SFT and reward models ({_weights(old)}); "
        f"what counts is the newest ({_weights(kept)})"
    )
    return kept, (line,)


def _newest(runs: pd.DataFrame, digest: str, of: pd.Series) -> pd.DataFrame:
    """Return the runs with the last digest of each group, and those without one."""
    newest = runs.groupby(of.loc[runs.index])[digest].transform("last")
    return runs[runs[digest].isna() | (runs[digest] == newest)]


def _weights(runs: pd.DataFrame) -> str:
    pairs = sorted(set(zip(runs["model"], runs["weights_digest"], strict=True)))
    more = [f"{len(pairs) - 4} more"] if len(pairs) > 4 else []
    return ", ".join([*(f"{model}: {digest}" for model, digest in pairs[:4]), *more])


def load_beside(
    directory: Path,
    runs: Sequence[RunConfig],
    preset: Preset,
    *,
    arms: bool = False,
    columns: Sequence[str] = (),
) -> Record:
    """Read the runs of another directory that can be drawn beside those of a grid.

    These are the runs of the same preset, of the grid's model sizes, timed or not as the grid's
    are, and on-policy or under ``reuse(N)`` unless the grid is timed. Beside a grid with ``arms``
    they are under its schedules. Each configuration becomes a series of its own, called after its
    algorithm and the directory; beside arms it is another arm. ``columns`` are those of ``load``.

    Raises:
        UserError: there are none, or a file cannot be read.
    """
    frame, left_out = foreign.read_runs(directory)
    frame = frame.sort_values("started_utc", kind="stable")
    timed = any(timed_arm(run) for run in runs)
    possible = (frame["preset"] == preset.name) & (frame["timed"].notna() == timed)
    possible &= frame["model"].isin({run.stage.model for run in runs})
    if arms:
        possible &= frame["schedule"].isin({str(run.schedule) for run in runs})
    elif not timed:
        possible &= frame["schedule_kind"].isin(["on_policy", "reuse"])
    frame = frame[possible]
    if frame.empty:
        raise UserError(
            f"--with {directory}: has no {'timed ' * timed}runs of preset {preset.name} that this "
            "figure could draw"
        )
    frame, remarks = newest_weights(frame)
    if columns:
        early, old = first_quarter(directory, frame, columns)
        frame, remarks = frame.merge(early, on="run_id"), (*remarks, *old)
    frame = frame.assign(algorithm=_series(frame, directory.resolve().name))
    if arms:
        frame = frame.assign(arm=frame["algorithm"])
    keys = ["algorithm", "model", "timed", "n", "seed"]
    record = _record(directory, frame.drop_duplicates(keys, keep="last"), preset, on_purpose=arms)
    return replace(record, remarks=(*left_out, *remarks))


def beside(record: Record, other: Record) -> Record:
    """Return the runs of both records as one."""
    frames = {
        name: pd.concat([getattr(record, name), getattr(other, name)], ignore_index=True)
        for name in ("final", "curves", "updates", "spans")
    }
    return replace(
        record,
        **frames,
        off_schedule=record.off_schedule | other.off_schedule,
        remarks=record.remarks + other.remarks,
    )


def _series(frame: pd.DataFrame, directory: str) -> list[str]:
    """Return the name of each run's series: "grpo (mine)", or "grpo (mine 2)" where it is one of
    several configurations of the algorithm."""
    settings = [
        json.dumps({k: v for k, v in json.loads(text).items() if k not in ("schedule", "timed")})
        for text in frame["config_json"]
    ]
    numbers: dict[str, list[str]] = {}
    for name, setting in zip(frame["algorithm"], settings, strict=True):
        if setting not in numbers.setdefault(name, []):
            numbers[name].append(setting)
    return [
        f"{name} ({directory}{f' {at + 1}' if (at := numbers[name].index(setting)) else ''})"
        for name, setting in zip(frame["algorithm"], settings, strict=True)
    ]


def _record(
    results_dir: Path, runs: pd.DataFrame, preset: Preset, *, on_purpose: bool = False
) -> Record:
    texts = runs["config_json"]
    cells = {text: json.loads(text) for text in texts.unique()}
    found = {text: _tuning(cell, preset, on_purpose=on_purpose) for text, cell in cells.items()}
    runs = runs.drop(columns="config_json").assign(
        tuned=[found[text][0] for text in texts],
        tuned_at=pd.Series([found[text][1] for text in texts], runs.index, dtype=object),
        reward_model=[_reward_model(cells[text]) for text in texts],
        epochs=[cells[text]["algorithm_params"].get("epochs", 1) for text in texts],
    )
    timed = runs.loc[runs["timed"].notna(), "run_id"]
    bound, remarks = ceiling(cells.values())
    columns = [*MEASURED, *(TIMES if len(timed) or "arm" in runs else ())]
    steps = store.read(results_dir, "steps", runs["run_id"], columns)
    if "arm" in runs:
        runs = runs.merge(times(steps), on="run_id", how="left")
    record = Record.of(
        runs,
        store.read(results_dir, "evals", runs["run_id"]),
        steps,
        store.read(results_dir, "spans", timed) if len(timed) else None,
    )
    if len(timed):
        record = add_lengths(record, store.read(results_dir, "outcomes", timed))
    return replace(record, ceiling=bound, remarks=remarks, directory=results_dir)


def _reward_model(cell: Mapping[str, Any]) -> str:
    """Return the size of the reward model; where it has none of its own, it is the policy's."""
    return str(cell["stage"].get("reward_model") or cell["stage"]["model"])


def _tuning(
    cell: Mapping[str, Any], preset: Preset, *, on_purpose: bool
) -> tuple[bool, str | None]:
    """Return whether a cell has what was chosen for its algorithm, and at which other size.

    Arms and series differ from the choice on purpose, in what they are called after: there must be
    one.
    """
    name, model = cell["algorithm"], cell["stage"]["model"]
    if on_purpose:
        tuned = preset.choice(name, model) is not None or name in preset.published
        return tuned, preset.tuned_at(name, model) if tuned else None
    tuned = preset.is_tuned(name, cell["learning_rate"], cell["algorithm_params"], model)
    return tuned, preset.tuned_at(name, model) if tuned else None
