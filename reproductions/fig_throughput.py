"""Throughput, measured: engines, learner, weight hand-off and whole updates, side by side.

(a) Generated tokens per second by batch size and model size: the suite's engine around the Hugging
Face model, the transformers library's own ``generate``, and vLLM where it is installed. (b) The
learner's step by algorithm, with its floating-point rate as a share of the machine's fastest matrix
product (peak) and of the step's own matrix products done alone. (c) Weights from the learner to an
engine, checked, and what was aimed for. (d) An update of online DPO from one publishing to the
next: TRL's trainer, synchronous on one core, on split and on all cores, asynchronous on split
cores, and the ideal max(generate, train) + rest. All series of a benchmark run in turn, on models
with random weights that do the same work to the token; points are medians over rounds, bars go from
the first to the third quartile. The table says which targets are met.

The paper: dedicated inference engines are far faster than training libraries, and the gap grows
with model size, to about 12 times at 7B.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bench.errors import UserError
from bench.experiments.flags import refuse_records
from bench.experiments.sweep import locked
from bench.paths import ROOT, THROUGHPUT
from bench.processes.devices import deal, environment, inventory
from bench.throughput import table
from plots.analysis.frames import Record
from plots.drawing import style, throughput
from reproductions.options import Options
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce

BENCHMARKS = Path(table.__file__).parent


def draw(record: Record) -> Figure:
    """Draw the four panels."""
    frame = record.throughput
    figure, (first, second, third, fourth) = style.subplots(2, rows=2, height=5.6)
    throughput.generation(first, frame)
    throughput.learner_step(second, frame)
    throughput.handoff(third, frame)
    throughput.updates(fourth, frame)
    first.set_title("(a) Which engine generates fastest?")
    second.set_title("(b) How near is the learner to the machine's limit?")
    third.set_title("(c) How long do new weights take?")
    fourth.set_title("(d) What does a whole update take?")
    least = min(frame["rounds"])
    style.origin(figure, frame, f"medians and quartiles of at least {least} rounds")
    return figure


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return the targets, the measured values and whether they are met."""
    del options
    return table.targets(record.throughput.to_dict("records"))


def measure(options: Options) -> None:
    """Run the benchmarks in a process of their own; at preset smoke those that take seconds.

    Raises:
        UserError: the directory holds recorded results or is in use, or the benchmarks failed.
    """
    name, out = options.preset.name, options.results_dir / THROUGHPUT
    refuse_records(options.results_dir)
    (gpus,) = deal(inventory(), 1, each=2)
    settings = {
        "ASYNC_RLHF_BENCH_PRESET": name,
        "ASYNC_RLHF_BENCH_OUT": str(out.resolve()),
        **environment(gpus),
    }
    quick = ["-m", "not slow"] if name == "smoke" else []
    arguments = [
        "-m",
        "pytest",
        "--benchmark-only",
        "--benchmark-quiet",
        "-q",
        *quick,
        str(BENCHMARKS),
    ]
    with locked(options.results_dir):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env={**os.environ, **settings}
        )
    if done.returncode != 0:
        raise UserError(f"the benchmarks failed, see above: pytest's status {done.returncode}")


def read(directory: Path) -> Record | None:
    """Return what was measured, each benchmark's latest session, or None if nothing was.

    Raises:
        UserError: a file cannot be read.
    """
    if not any((directory / THROUGHPUT).glob("*.parquet")):
        return None
    return record_of(table.latest(table.read(directory / THROUGHPUT)))


def record_of(frame: pd.DataFrame) -> Record:
    """Return a record of rows of the table, without runs."""
    runs = pd.DataFrame(columns=["run_id", "model", "algorithm", "n"])
    return Record(runs, runs, frozenset(), throughput=frame)


REPRODUCTION = Reproduction(
    name="fig_throughput",
    caption=__doc__,
    measure=measure,
    read=read,
    draw=draw,
    tabulate=tabulate,
    presets=("smoke", "tiny"),
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
