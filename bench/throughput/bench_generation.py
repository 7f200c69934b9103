"""Generation by batch size, beside ``generate`` of the transformers library."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.sampling import sample_seeds
from bench.throughput import workload
from bench.throughput.measure import Meter, Series


@pytest.mark.parametrize("rows", [32, 128, 512])
def bench_generation(measure: Meter, rows: int) -> None:
    """Sample K completions of each prompt: completion tokens per second."""
    sampling, prompts = workload.sampling(), workload.prompts(rows // workload.K)
    tokens = rows * sampling.max_completion_tokens
    engine, tokenizer = workload.engine(), workload.task().tokenizer
    seeds = sample_seeds(0, 0, prompts, workload.K)
    assert bool(engine.generate(prompts, sampling, seeds).completion_mask.all())

    input_ids = torch.tensor([p.token_ids for p in prompts], device=workload.DEVICE)

    def generate() -> torch.Tensor:
        found = engine.model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            do_sample=True,
            temperature=sampling.temperature,
            top_k=0,
            num_return_sequences=workload.K,
            max_new_tokens=sampling.max_completion_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
        assert isinstance(found, torch.Tensor)
        return found

    assert generate().shape == (rows, input_ids.shape[1] + sampling.max_completion_tokens)
    own = Series(name="hf", run=lambda: engine.generate(prompts, sampling, seeds), tokens=tokens)
    measure(
        "generation",
        replace(workload.shape(), rows=rows),
        own,
        Series(name="transformers_generate", run=generate, tokens=tokens),
    )
