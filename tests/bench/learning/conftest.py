import copy

import pytest

from bench.engines.hf import HfEngine
from bench.randomness import sample_seeds
from bench.types import Sampling

from ...conftest import EOS, PAD


@pytest.fixture
def rollouts(policy, prompts):
    engine = HfEngine(copy.deepcopy(policy), pad_token_id=PAD, eos_token_id=EOS)
    return engine.generate(prompts, Sampling(0.7, 8, 2), sample_seeds(0, 0, prompts, 2))
