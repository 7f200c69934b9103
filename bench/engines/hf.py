"""Generation with the Hugging Face model itself: a batched decode loop over its key-value cache.

``transformers``' own ``generate`` spends most of a small model's decode step in Python; this loop
does only what plain temperature sampling needs and draws each row from its own keyed stream.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from bench.engines.padding import join, pad_prompts
from bench.hub import load_model
from bench.learning.logprobs import positions
from bench.randomness import uniforms
from bench.sources.handoff import checksum
from bench.types import Prompt, Rollouts, Sampling, WeightSnapshot


class HfEngine:
    """An engine around a causal language model, on the model's own device.

    Example:
        >>> engine = HfEngine(model, pad_token_id=0, eos_token_id=1)
        >>> engine.load(learner.snapshot())
        >>> rollouts = engine.generate(prompts, Sampling(0.7, 24, 2), seeds)
    """

    own_process: ClassVar[bool] = False

    def __init__(self, model: PreTrainedModel, *, pad_token_id: int, eos_token_id: int) -> None:
        """Wrap ``model``; ``load`` overwrites its weights."""
        self.model = model.eval()
        self.policy_version = 0
        self._pad = pad_token_id
        self._eos = eos_token_id

    @classmethod
    def require_installed(cls) -> None:
        """Do nothing: the suite itself needs transformers."""

    @classmethod
    def from_checkpoint(
        cls, model_dir: Path, *, dtype: str, device: str, pad_token_id: int, eos_token_id: int
    ) -> Self:
        """Return an engine around the checkpoint in ``model_dir``; see ``NamedEngine``."""
        model = load_model(AutoModelForCausalLM, model_dir, dtype=getattr(torch, dtype))
        model.to(device)
        return cls(model, pad_token_id=pad_token_id, eos_token_id=eos_token_id)

    def load(self, snapshot: WeightSnapshot) -> None:
        """Overwrite the weights with a snapshot's."""
        if snapshot.policy_version != self.policy_version:
            self.model.load_state_dict(dict(snapshot.state))
            self.policy_version = snapshot.policy_version

    def checksum(self) -> str:
        """Return ``bench.sources.handoff.checksum`` of the weights loaded now."""
        return checksum(self.model.state_dict())

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> Rollouts:
        """Sample K completions of each prompt, in parts of whole prompts.

        All prompts are padded to the same length, whatever the parts: so a part computes what the
        whole would, but for the rounding of matrix products of few rows.

        Args:
            prompts: B prompts of any lengths.
            sampling: temperature, length limit, K and rows at once.
            seeds: one per row, B * K, prompt-major.

        Returns:
            Rollouts on the model's device, T being the longest completion of the batch.
        """
        start = time.perf_counter()
        device, k = self.model.device, sampling.completions_per_prompt
        padded = pad_prompts(prompts, self._pad)
        prompt_tokens, prompt_mask = (tensor.to(device) for tensor in padded)
        draws = torch.from_numpy(uniforms(seeds, sampling.max_completion_tokens)).to(device)

        size = max(1, (sampling.rows_at_once or len(seeds)) // k)  # prompts
        parts = [
            self._sample(*part, sampling)
            for part in zip(
                prompt_tokens.split(size), prompt_mask.split(size), draws.split(size * k),
                strict=True,
            )
        ]  # fmt: skip
        tokens, completion_mask, logprobs = (
            join(column, value)
            for column, value in zip(zip(*parts, strict=True), (self._pad, False, 0.0), strict=True)
        )
        return Rollouts(
            policy_version=self.policy_version,
            prompts=tuple(prompts),
            completions_per_prompt=k,
            prompt_tokens=prompt_tokens.repeat_interleave(k, 0) if k > 1 else prompt_tokens,
            prompt_mask=prompt_mask.repeat_interleave(k, 0) if k > 1 else prompt_mask,
            completion_tokens=tokens,
            completion_mask=completion_mask,
            logprobs=logprobs,
            finished=(completion_mask & (tokens == self._eos)).any(1),
            generate_s=time.perf_counter() - start,
        )

    def _sample(
        self, prompt_tokens: Tensor, prompt_mask: Tensor, draws: Tensor, sampling: Sampling
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens, their mask and log-probs [rows, T], T being the longest of these rows."""
        k = sampling.completions_per_prompt
        cache = DynamicCache(config=self.model.config)
        logits = self._forward(prompt_tokens, prompt_mask, cache)
        mask = prompt_mask
        if k > 1:
            cache.batch_repeat_interleave(k)
            logits = logits.repeat_interleave(k, 0)
            mask = mask.repeat_interleave(k, 0)

        alive = torch.ones(len(draws), 1, dtype=torch.bool, device=draws.device)
        tokens, logprobs, alives = [], [], []
        for t in range(sampling.max_completion_tokens):
            distribution = torch.log_softmax(logits.float() / sampling.temperature, -1)
            token = _draw(distribution, draws[:, t : t + 1])
            logprobs.append(distribution.gather(1, token))
            tokens.append(token.masked_fill(~alive, self._pad))
            alives.append(alive)
            alive = alive & (token != self._eos)
            if t + 1 == sampling.max_completion_tokens or not bool(alive.any()):
                break
            mask = torch.cat([mask, torch.ones_like(alive)], 1)
            logits = self._forward(tokens[-1], mask, cache)

        completion_mask = torch.cat(alives, 1)
        return torch.cat(tokens, 1), completion_mask, torch.cat(logprobs, 1) * completion_mask

    def _forward(self, tokens: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
        """Return the next-token logits [rows, V] after ``tokens``, extending ``cache``."""
        placed = positions(mask)
        if "position_ids" in placed:
            placed["position_ids"] = placed["position_ids"][:, -tokens.shape[1] :]
        out = self.model(
            input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1, **placed
        )
        logits: Tensor = out.logits[:, -1]
        return logits


def _draw(logprobs: Tensor, uniform: Tensor) -> Tensor:
    """Return tokens [rows, 1] by inverting the cumulative distribution at ``uniform`` [rows, 1]."""
    cumulative = logprobs.exp().cumsum(-1)
    # Scaled by the total, so that rounding never leaves a draw above the last token.
    token = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return token.clamp_(max=logprobs.shape[-1] - 1)
