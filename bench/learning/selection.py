"""Which completions are too old when they are trained on, and what becomes of them.

``drop``: a prompt with one of them is left out before advantages are computed, as where a whole
group is cancelled. ``withhold``: they have no gradient, but stay in baselines and in the means of
the loss. Where nothing is left the update changes no weights.

In lock-step all completions of a batch were sampled by one version. Real engines generate without a
break, and a long completion is the older for it. ``tokens_per_update`` is a model of that: a
completion is one update older for each so many tokens that it took. Who is selected by it is real,
the further age is not: the version that sampled it stays the schedule's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bench.config import RunConfig
from bench.learning.sequences import Sequences
from bench.types import Rollouts, ScoredRollouts


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is trained on of a scored batch of R rows.

    ``metrics``: late_fraction, and of the completions that are not late kept_reward_mean and
    kept_length_mean_tokens, beside drawn_length_mean_tokens of all; none where all are trained on.
    """

    scored: ScoredRollouts
    sequences: Sequences
    withheld: Tensor | None = None  # [R] bool: what has no gradient
    is_empty: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)


def ages(rollouts: Rollouts, policy_version: int, tokens_per_update: int | None) -> Tensor:
    """Return how many updates old each completion is: [R] int64; its oldest token counts."""
    lengths = rollouts.completion_mask.sum(1)
    oldest = torch.full_like(lengths, rollouts.policy_version)
    if (versions := rollouts.token_versions) is not None:
        oldest = versions.masked_fill(~rollouts.completion_mask, policy_version).amin(1)
    further = 0 if tokens_per_update is None else (lengths - 1) // tokens_per_update
    return policy_version - oldest + further


def choose(
    scored: ScoredRollouts, sequences: Sequences, policy_version: int, config: RunConfig
) -> Chosen:
    """Return what a run trains on of a batch, before an update of the policy of this version."""
    if config.max_age_updates is None:
        return Chosen(scored, sequences)
    rollouts = scored.rollouts
    is_late = ages(rollouts, policy_version, config.tokens_per_update) > config.max_age_updates
    if config.late == "drop":
        k = rollouts.completions_per_prompt
        is_late = is_late.view(-1, k).any(1).repeat_interleave(k)
    lengths, kept = rollouts.completion_mask.sum(1).float(), ~is_late
    metrics = {
        "late_fraction": float(is_late.float().mean()),
        "drawn_length_mean_tokens": float(lengths.mean()),
    }
    if not kept.any():
        return Chosen(scored, sequences, is_empty=True, metrics=metrics)
    metrics["kept_length_mean_tokens"] = float(lengths[kept].mean())
    metrics["kept_reward_mean"] = float(scored.rewards[kept].mean())
    if config.late == "withhold":
        return Chosen(scored, sequences, withheld=is_late, metrics=metrics)
    rows = kept.nonzero().squeeze(1)
    return Chosen(_rows(scored, rows), sequences.select(rows), metrics=metrics)


def without_gradient(outputs: Sequence[Tensor], withheld: Tensor | None) -> list[Tensor]:
    """Return outputs [M, T] of which the rows that are withheld, [M], have no gradient."""
    if withheld is None:
        return list(outputs)
    return [output.where(~withheld[:, None], output.detach()) for output in outputs]


def _rows(scored: ScoredRollouts, rows: Tensor) -> ScoredRollouts:
    """Return these rows, which are of whole prompts."""
    of = scored.rollouts
    k = of.completions_per_prompt
    reference, versions = scored.ref_logprobs, of.token_versions
    rollouts = replace(
        of,
        prompts=tuple(of.prompts[row // k] for row in rows[::k].tolist()),
        prompt_tokens=of.prompt_tokens[rows],
        prompt_mask=of.prompt_mask[rows],
        completion_tokens=of.completion_tokens[rows],
        completion_mask=of.completion_mask[rows],
        logprobs=of.logprobs[rows],
        finished=of.finished[rows],
        token_versions=None if versions is None else versions[rows],
    )
    return ScoredRollouts(
        rollouts, scored.rewards[rows], None if reference is None else reference[rows]
    )
