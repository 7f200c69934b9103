"""A run put together in a worker that believes in the GPUs it is given, up to its engine."""

import os

import torch

from bench.assembly import assemble
from bench.config import Execution
from bench.engines import ENGINES
from bench.engines.hf import HfEngine
from bench.errors import UserError
from bench.processes.devices import VISIBLE


class Telling(HfEngine):
    """Tells, by refusing to start, which device it was given and which GPUs its process sees."""

    @classmethod
    def from_checkpoint(cls, model_dir, *, device, **settings):
        del model_dir, settings
        raise UserError(f"engine on {device} of {os.environ.get(VISIBLE)}")


def assemble_there(job, on_progress) -> str:
    """Return the device of the learner's models, the GPUs the worker sees, and the engine's."""
    del on_progress
    config, models, execution = job.payload
    learner = set()

    def to(module, device):
        learner.add(device)
        return module

    torch.nn.Module.to = to
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: len(os.environ[VISIBLE].split(","))
    ENGINES["telling"] = "tests.bench.gpu_jobs:Telling"
    try:
        assemble(config, models, Execution(source="overlapped", **execution))
    except UserError as error:
        return f"learner on {learner.pop()} of {os.environ[VISIBLE]}, {error}"
    raise AssertionError("the engine started")
