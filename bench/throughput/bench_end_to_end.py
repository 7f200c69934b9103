"""Whole updates: generate, score, learn, publish; beside TRL's trainer, and overlapped."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.assembly import assemble
from bench.config import Execution, RunConfig
from bench.learner import Learner
from bench.sources import Source
from bench.staleness import lag
from bench.throughput import workload
from bench.throughput.measure import Meter, Series
from bench.throughput.trl_baseline import TrlOnlineDpo

IN_A_ROW = 8  # updates of a round where generation runs ahead: a single one would find it done


@dataclass(frozen=True)
class Update:
    """Calls do what the training loop does, evaluation left out."""

    source: Source
    learner: Learner
    tokens: int

    @classmethod
    def of(cls, config: RunConfig, directory: Path, execution: Execution | None = None) -> Update:
        """Put a run together from models saved in ``directory``."""
        models = workload.save(directory, config.stage.model)
        source, learner, _ = assemble(config, models, execution or Execution())
        source.publish(learner.snapshot())
        return cls(source, learner, workload.shape(config.algorithm).tokens)

    def __call__(self) -> None:
        """Do one update."""
        record = self.learner.step(self.source.next())
        self.source.publish(self.learner.snapshot())
        assert record.completion_tokens == self.tokens

    def series(self, name: str, in_a_row: int = 1) -> Series:
        """Return updates as a series, some of them in each round."""

        def run() -> None:
            for _ in range(in_a_row):
                self()

        rows = workload.shape().rows
        return Series(
            name=name, run=run, tokens=in_a_row * self.tokens, completions=in_a_row * rows
        )


@pytest.mark.parametrize("algorithm", [a for a in workload.ALGORITHMS if a != "online_dpo"])
def bench_update(measure: Meter, tmp_path: Path, algorithm: str) -> None:
    """Do one update: completions per second."""
    update = Update.of(workload.config(algorithm), tmp_path)
    measure("update", workload.shape(algorithm), update.series("inline"))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL's, of what transformers renames
def bench_update_beside_trl(measure: Meter, tmp_path: Path) -> None:
    """Do one update of online DPO and one of TRL's, on the same models, prompts and lengths."""
    config = workload.config("online_dpo")
    own = Update.of(config, tmp_path).series("inline")
    with TrlOnlineDpo(config, workload.save(tmp_path), tmp_path / "trl") as trl:
        other = replace(own, name="trl_online_dpo", run=trl.step, target=1.5)
        measure("update", workload.shape("online_dpo"), own, other)
        ended = trl.trainer.stats["val/contain_eos_token"]
    assert ended
    assert not any(ended)  # none of TRL's completions was shorter


def bench_update_overlapped(measure: Meter, tmp_path: Path) -> None:
    """Generate in another process while learning, one step off-policy, beside taking turns."""
    config = replace(workload.config("online_dpo"), schedule=lag(1))
    inline = Update.of(config, tmp_path / "inline")
    overlapped = Update.of(config, tmp_path / "overlapped", Execution(source="overlapped"))
    with closing(overlapped.source):
        measure(
            "update_overlapped",
            workload.shape("online_dpo"),
            overlapped.series("overlapped", IN_A_ROW),
            inline.series("inline", IN_A_ROW),
            rounds=5,
        )
