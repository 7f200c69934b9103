"""Engines as they are in an overlapped run, in a worker; and what they are compared with."""

from functools import partial
from importlib.util import find_spec

import pytest
import torch
from transformers import GPTNeoXForCausalLM

from bench.learning.logprobs import completion_logprobs
from bench.learning.sequences import Sequences
from bench.processes.local import LocalWorker

from ...conftest import EOS, PAD, neox_config
from .vllm_hosts import Versatile

CONTEXT = 320  # vLLM caches whole blocks of 128 tokens on a CPU: room for a prompt of two
TOKENS = {"pad_token_id": PAD, "eos_token_id": EOS}


def policy(seed):
    """Return a model with the smallest heads that vLLM serves on a CPU."""
    torch.manual_seed(seed)
    config = neox_config(
        hidden_size=64, intermediate_size=64, max_position_embeddings=CONTEXT, initializer_range=0.2
    )
    return GPTNeoXForCausalLM(config).eval()


@torch.no_grad()
def learner_logprobs(model, rollouts, temperature=1.0):
    return completion_logprobs(model, Sequences.of(rollouts), temperature)


def gap(model, rollouts, temperature=1.0):
    """Return the largest difference between the engine's and the learner's log-probs."""
    difference = learner_logprobs(model, rollouts, temperature) - rollouts.logprobs
    return float(difference.abs().max())


def start(factory):
    """Return a worker that has built its object."""
    worker = LocalWorker(factory)
    worker.ready.result(timeout=300)
    return worker


@pytest.fixture(scope="session")
def vllm(tmp_path_factory):
    """Return a worker with a ``Versatile`` engine around ``policy(seed=0)``."""
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed: `tox -e vllm` runs this")
    directory = tmp_path_factory.mktemp("model")
    policy(seed=0).save_pretrained(directory)
    worker = start(partial(Versatile, directory, **TOKENS))
    yield worker
    worker.close()


class Borrowed:
    """A worker of a ``Versatile`` engine as one source sees it: closing it leaves it running."""

    alive = True

    def __init__(self, worker, directory, **options):
        self._worker = worker
        self.ready = worker.submit("open", directory, options)

    def submit(self, method, call):
        assert method == "generate"
        return self._worker.submit("answer", call)

    def sync(self):
        pass

    def close(self, grace_s=5.0):
        del grace_s
        self._worker.submit("open").result(60)
