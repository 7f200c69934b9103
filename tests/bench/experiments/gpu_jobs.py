"""What workers of a sweep do in tests of GPUs, quick to import."""

import fcntl
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass

from bench.experiments.cells import Trained
from tests.bench.fakes import FakeExecute


@dataclass(frozen=True)
class Holding(FakeExecute):
    """Locks the GPUs that the worker sees and writes down which they are; fails on one locked."""

    def __call__(self, job, on_progress) -> Trained:
        seen = os.environ["CUDA_VISIBLE_DEVICES"]
        with ExitStack() as stack:
            for gpu in seen.split(","):
                file = stack.enter_context((self.results_dir / gpu).open("w"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            trained = super().__call__(job, on_progress)
        (self.results_dir / f"{job.log_name}.gpus").write_text(seen)
        return trained


def tell_gpus(directories, job, on_progress) -> None:
    del job, on_progress
    (directories[0] / os.environ["CUDA_VISIBLE_DEVICES"]).touch()
    time.sleep(1.0)  # so that the other one is given another worker
