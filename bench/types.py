"""The nouns of the suite, in the order in which data flows through it.

Shape legend: B prompts in a batch, K completions per prompt, R = B * K rows (prompt-major: row
``b * K + k`` is completion k of prompt b), P prompt tokens (left-padded), T completion tokens
(right-padded). This module never imports torch at run time, so that plots can read records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

# How a timed run uses the machine's cores: see ``bench.experiments.arms``.
Timed = Literal["split", "whole", "overlapped"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised prompt. ``prompt_id`` is unique within a task, over all of its splits."""

    prompt_id: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an engine samples: K completions per prompt, by plain temperature sampling."""

    temperature: float
    max_completion_tokens: int
    completions_per_prompt: int = 1
    # Rows in one pass, of an engine that would have all of a batch in one; None: all.
    rows_at_once: int | None = None


@dataclass(frozen=True, slots=True)
class WeightSnapshot:
    """An immutable copy of the policy's weights; never live references."""

    policy_version: int
    state: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Rollouts:
    """A batch of completions with their log-probs under the policy that sampled them.

    ``logprobs`` are the behaviour policy's, at the sampling temperature, and 0 where
    ``completion_mask`` is 0. The mask is 1 up to and including EOS.
    """

    policy_version: int
    prompts: tuple[Prompt, ...]  # B
    completions_per_prompt: int  # K
    prompt_tokens: Tensor  # [R, P] int64
    prompt_mask: Tensor  # [R, P] bool
    completion_tokens: Tensor  # [R, T] int64
    completion_mask: Tensor  # [R, T] bool
    logprobs: Tensor  # [R, T] float32
    finished: Tensor  # [R] bool: the completion ends with EOS
    token_versions: Tensor | None = None  # [R, T] int64, -1 where masked; None: all the same
    generate_s: float = 0.0
    transfer: Mapping[str, float] = field(default_factory=dict)  # measured by the source

    def sampled_by(self, policy_version: int) -> Tensor:
        """Return which tokens this version sampled, [R, T] bool."""
        if self.token_versions is not None:
            return self.token_versions == policy_version
        return self.completion_mask & (self.policy_version == policy_version)

    def completions(self) -> list[list[int]]:
        """Return each row's completion without padding (with EOS where it was generated)."""
        lengths = self.completion_mask.sum(1).tolist()
        rows = self.completion_tokens.tolist()
        return [row[:length] for row, length in zip(rows, lengths, strict=True)]


@dataclass(frozen=True, slots=True)
class ScoredRollouts:
    """Rollouts with the outputs of the frozen models.

    ``rewards`` [R] are the proxy reward model's scores, a missing EOS already penalised.
    ``ref_logprobs`` [R, T] are the SFT model's at the sampling temperature, or None if the
    algorithm does not need them.
    """

    rollouts: Rollouts
    rewards: Tensor  # [R] float32
    ref_logprobs: Tensor | None = None  # [R, T] float32

    @property
    def is_finite(self) -> bool:
        """Whether all rewards and behaviour log-probs are numbers that can be trained on."""
        return all(bool(x.isfinite().all()) for x in (self.rewards, self.rollouts.logprobs))


@dataclass(frozen=True, slots=True)
class LearnerStep:
    """What the learner measured while it trained on one batch."""

    policy_version: int  # before the step
    learning_rate: float
    loss: float
    grad_norm: float
    reward_mean: float
    logprob_gap_mean: float  # |behaviour - learner| at the step's start, nats per token
    score_s: float
    learn_s: float
    metrics: Mapping[str, float]  # the algorithm's own
    # The columns of ``StepRecord`` that may be None, by name.
    diagnostics: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """Whether the run may go on; otherwise it has diverged."""
        return isfinite(self.loss) and isfinite(self.grad_norm)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One batch trained on, as it is stored (a row of table ``steps``)."""

    step: int
    policy_version: int
    rollout_version: int
    staleness: int
    learning_rate: float
    loss: float
    grad_norm: float
    reward_mean: float
    finished_fraction: float
    completion_tokens: int
    logprob_gap_mean: float  # |behaviour - learner| at the step's start, nats per token
    wait_s: float
    generate_s: float
    score_s: float
    learn_s: float
    publish_s: float
    metrics: Mapping[str, float] = field(default_factory=dict)  # the algorithm's, the source's
    # Diagnostics, whatever the loss: see ``bench.learning.diagnostics``. None: not defined.
    ess_fraction: float | None = None
    log_ratio_square_mean: float | None = None
    log_ratio_max_nats: float | None = None
    kl_k1_nats: float | None = None
    kl_k3_nats: float | None = None
    entropy_nats: float | None = None
    length_mean_tokens: float | None = None
    length_max_tokens: float | None = None
    gradient_cosine: float | None = None
    raised_fraction: float | None = None
    clip_fraction_positive: float | None = None
    clip_fraction_negative: float | None = None
    mask_fraction_positive: float | None = None
    mask_fraction_negative: float | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """What a process did, and when (table ``spans``).

    Times are of ``time.perf_counter``, which on Linux all processes of a machine share.
    ``step`` is the batch for load, generate, wait, score and learn, and the policy version for
    publish and evaluate.
    """

    process: str  # learner | engine
    name: str  # generate | load | wait | score | learn | publish | evaluate | restart
    start_s: float
    end_s: float
    step: int


@dataclass(frozen=True, slots=True)
class EvalRecord:
    """One evaluation of the policy, over ``win_rate_n`` prompts (table ``evals``)."""

    step: int
    episodes: int  # prompts trained on so far
    completions: int  # completions trained on so far
    wall_s: float  # training time so far, evaluation excluded
    win_rate: float
    win_rate_n: int
    gold_mean: float
    reference_gold_mean: float
    reward_mean: float  # proxy
    kl_nats: float  # sequence KL(policy || SFT) per completion, Monte Carlo
    perplexity: float  # under the SFT model, per completion token
    perplexity_diluted: float  # the paper's: normalised by prompt + completion length
    completion_tokens_mean: float
    finished_fraction: float
    evaluate_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One evaluated completion as text (table ``samples``)."""

    step: int
    prompt_id: int
    prompt: str
    completion: str
    reference: str
    gold: float
    reference_gold: float
    reward: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one completion of the last evaluation compares with the reference (table ``outcomes``).

    Two runs of the same evaluation prompts can be paired by these.
    """

    prompt_id: int
    outcome: str  # win | tie | loss, as the gold judge says
    completion_tokens: int  # EOS included
    reference_tokens: int  # EOS included


@dataclass
class Records:
    """What a run has measured so far."""

    steps: list[StepRecord]
    evals: list[EvalRecord]
    samples: list[Sample]
    outcomes: list[Outcome]
    spans: list[Span]
    wall_s: float = 0.0


@dataclass(frozen=True)
class RunResult:
    """All that a run measured; ``store.write_run`` puts it into Parquet."""

    status: str  # completed | diverged
    diverged_at: int | None
    steps: list[StepRecord]
    evals: list[EvalRecord]
    samples: list[Sample]
    outcomes: list[Outcome]
    wall_s: float  # evaluation excluded
    spans: list[Span]


@dataclass(frozen=True)
class StageModels:
    """Directories of the two checkpoints, and digests of their weights, 12 hex digits each."""

    sft_dir: Path
    reward_dir: Path | None  # None: rewards are by rule
    digest: str  # of both, the SFT model first
    sft_digest: str

    def directories(self) -> list[Path]:
        """Return the directories that there are."""
        return [path for path in (self.sft_dir, self.reward_dir) if path is not None]
