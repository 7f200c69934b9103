"""Generation by model and batch size, beside ``generate`` of the transformers library and vLLM."""

from __future__ import annotations

import pytest
import torch

from bench.randomness import sample_seeds
from bench.throughput import served, workload
from bench.throughput.measure import Meter, Series
from bench.types import Rollouts

ROWS = {"smoke": [16], "tiny": [32, 128, 512]}[workload.PRESET]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("model", workload.MODELS)
def bench_generation(measure: Meter, model: str, rows: int) -> None:
    """Sample K completions of each prompt: completion tokens per second."""
    sampling, prompts = workload.sampling(), workload.prompts(rows // workload.K)
    tokens = rows * sampling.max_completion_tokens
    engine, tokenizer = workload.engine(model), workload.task().tokenizer
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
    others = [Series(name="transformers_generate", run=generate, tokens=tokens)]
    if (vllm := served.vllm(model)) is not None:

        def generate_by_vllm() -> Rollouts:
            found: Rollouts = vllm.submit("generate", prompts, sampling, seeds).result(300)
            return found

        assert bool(generate_by_vllm().completion_mask.all())
        others.append(Series(name="vllm", run=generate_by_vllm, tokens=tokens))
    measure(
        "generation",
        workload.shape(model=model, rows=rows),
        own,
        *others,
        rounds=5,
        warmup_rounds=1,
    )
