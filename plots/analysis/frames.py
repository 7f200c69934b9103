"""Data frames for statistics and figures, made from the recorded tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from bench.staleness import Schedule

OUTCOMES = [
    "win_rate", "gold_mean", "reward_mean", "kl_nats", "perplexity", "perplexity_diluted",
    "completion_tokens_mean", "finished_fraction",
]  # fmt: skip
RUN_KEYS = ["run_id", "algorithm", "model", "timed", "seed"]
TIMES = ["wait_s", "score_s", "learn_s", "publish_s", "generate_s"]


def final(runs: pd.DataFrame, evals: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run: its columns of ``runs``, its last evaluation and two more.

    ``sft_win_rate`` is the win rate before the first update, ``win_rate_area`` the mean over
    training: the area under the learning curve over updates, from update 0 on, by the trapezoid
    rule, over the number of updates. A diverged run counts at its SFT win rate in both; its other
    outcomes are NaN. Runs without an evaluation are left out.
    """
    ordered = evals.sort_values(["run_id", "step"])
    last = ordered.groupby("run_id").tail(1).drop(columns=["wall_s"])
    start = ordered[ordered["step"] == 0][["run_id", "win_rate"]]
    start = start.rename(columns={"win_rate": "sft_win_rate"})
    frame = runs.merge(last, on="run_id").merge(start, on="run_id")
    frame = frame.merge(_areas(ordered), on="run_id")
    diverged = frame["status"] == "diverged"
    frame.loc[diverged, OUTCOMES] = np.nan
    for name in ("win_rate", "win_rate_area"):
        frame.loc[diverged, name] = frame.loc[diverged, "sft_win_rate"]
    return frame.sort_values(["algorithm", "n", "seed"], ignore_index=True)


def _areas(ordered: pd.DataFrame) -> pd.DataFrame:
    """Return ``win_rate_area`` by ``run_id``, of evaluations in order of their steps."""
    by_run = ordered.groupby("run_id")
    height = (ordered["win_rate"] + by_run["win_rate"].shift()) / 2
    area = (height * by_run["step"].diff()).groupby(ordered["run_id"]).sum()
    steps = by_run["step"].max() - by_run["step"].min()
    mean = (area / steps).where(steps > 0, by_run["win_rate"].first())
    return mean.rename("win_rate_area").reset_index()


def curves(runs: pd.DataFrame, evals: pd.DataFrame) -> pd.DataFrame:
    """Return one row per evaluation with the run's columns, in training order.

    A diverged run ends at its last evaluation.
    """
    frame = runs.drop(columns=["wall_s"]).merge(evals, on="run_id")
    return frame.sort_values(["algorithm", "n", "seed", "step"], ignore_index=True)


def updates(runs: pd.DataFrame, evals: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """Return one row per update in steady state: where the learner's time went, in seconds.

    ``update_s`` is all of it: ``wait_s`` + ``score_s`` + ``learn_s`` + ``publish_s``. The engine's
    ``generate_s`` is within the wait if the two take turns. Left out are the first update and those
    after an evaluation, during which an overlapped engine goes on generating.
    """
    frame = runs[RUN_KEYS].merge(steps[["run_id", "step", *TIMES]], on="run_id")
    frame["update_s"] = frame[TIMES[:-1]].sum(axis=1)
    after = pd.MultiIndex.from_frame(evals[["run_id", "step"]])
    return frame[~pd.MultiIndex.from_frame(frame[["run_id", "step"]]).isin(after)]


def staleness(steps: pd.DataFrame) -> pd.DataFrame:
    """Return ``staleness_mean`` and ``staleness_max`` of each run, in updates, as measured."""
    by_run = steps.groupby("run_id")["staleness"]
    found = by_run.agg(staleness_mean="mean", staleness_max="max")
    return found.reset_index()


def off_schedule(runs: pd.DataFrame, steps: pd.DataFrame) -> list[str]:
    """Return the ids of runs whose measured staleness is not what their schedule says.

    A run without steps counts as off schedule: its staleness was never measured. Of one that ran
    freely, ``bounded(S)``, the schedule says only how stale it may be.
    """
    ordered = steps.sort_values("step")
    measured, rows = ordered["staleness"].to_numpy(), ordered.groupby("run_id").indices
    wrong = []
    for run_id, text in zip(runs["run_id"], runs["schedule"], strict=True):
        staleness = measured[rows[run_id]].tolist() if run_id in rows else []
        said = _staleness(text, len(staleness))
        fits = staleness == said
        if not Schedule.parse(text).lock_step:
            fits = all(0 <= s <= most for s, most in zip(staleness, said, strict=True))
        if not staleness or not fits:
            wrong.append(str(run_id))
    return wrong


@cache
def _staleness(text: str, updates: int) -> list[int]:
    """Return what a schedule says of each update."""
    schedule = Schedule.parse(text)
    return [i - schedule.version_at(i) for i in range(updates)]


@dataclass(frozen=True)
class Record:
    """The runs a figure is drawn from and its claims are judged on.

    One run per algorithm, N and seed in each arm: an arm is a model, the size of its reward model
    (``reward_model``), a learning-rate schedule, a learning rate and a number of updates. What
    compares runs takes the record of one arm, see ``where``.
    """

    final: pd.DataFrame
    curves: pd.DataFrame
    off_schedule: frozenset[str]  # run ids
    updates: pd.DataFrame = field(default_factory=pd.DataFrame)  # of timed runs: ``frames.updates``
    spans: pd.DataFrame = field(default_factory=pd.DataFrame)  # of timed runs
    throughput: pd.DataFrame = field(default_factory=pd.DataFrame)  # rows of the benchmarks' table
    ceiling: float | None = None  # the win rate of a perfect policy; None: unknown
    remarks: tuple[str, ...] = ()  # what a reader of the verdicts should know of the runs
    directory: Path | None = None  # where the runs are, for tables that need more of them

    @staticmethod
    def of(
        runs: pd.DataFrame,
        evals: pd.DataFrame,
        steps: pd.DataFrame,
        spans: pd.DataFrame | None = None,
    ) -> Record:
        """Make a record of the tables; ``spans`` are those of the timed runs, if there are any."""
        ends = final(runs, evals).merge(staleness(steps), on="run_id", how="left")
        record = Record(ends, curves(runs, evals), frozenset(off_schedule(runs, steps)))
        if spans is None or spans.empty:
            return record
        timed = runs[runs["timed"].notna()]
        return replace(
            record,
            updates=updates(timed, evals, steps),
            spans=timed[RUN_KEYS].merge(spans, on="run_id"),
        )

    def untuned(self) -> list[str]:
        """Return the algorithms of which no run has the hyper-parameters that a search chose.

        A figure may set them off the choice on purpose, beside runs that keep it.
        """
        if "tuned" not in self.final:
            return []
        tuned = self.final["tuned"].astype(bool).groupby(self.final["algorithm"]).any()
        return sorted(tuned.index[~tuned])

    def n_values(self, algorithm: str) -> list[int]:
        """Return the N at which an algorithm was run, smallest first."""
        return sorted(set(self.final.loc[self.final["algorithm"] == algorithm, "n"]))

    def where(self, **columns: object) -> Record:
        """Return the runs with the given values, as in ``where(lr_schedule="per_update")``."""
        frames = {name: getattr(self, name) for name in ("final", "curves", "updates", "spans")}
        for column, value in columns.items():
            frames = {name: _where(frame, column, value) for name, frame in frames.items()}
        return replace(self, **frames)

    def by_n(self, algorithm: str, n: Sequence[int], y: str = "win_rate") -> pd.DataFrame:
        """Return ``y`` of the final policies as seeds x N; only seeds with every N are kept.

        ``lag`` has no N; of runs timed on all cores and on split ones, the split count.

        Raises:
            ValueError: the record has two runs for one algorithm, N and seed.
        """
        final = self.final
        chosen = (final["algorithm"] == algorithm) & (final["schedule_kind"] != "lag")
        if "timed" in final:
            chosen &= final["timed"] != "whole"
        frame = final.loc[chosen, ["n", "seed", y]]
        twice = frame[frame.duplicated(["n", "seed"])]
        if len(twice):
            first_n, seed = twice[["n", "seed"]].iloc[0]
            raise ValueError(
                f"{algorithm}, N = {first_n}, seed {seed}: two runs in one record; "
                "choose one model, task and learning-rate schedule with Record.where"
            )
        table = frame.pivot(index="seed", columns="n", values=y)
        return table.reindex(columns=list(n)).dropna()


def _where(frame: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    """Return the rows with a value; the frame itself if it has no others, or no such column."""
    if column not in frame or (kept := frame[column] == value).all():
        return frame
    return frame[kept]
