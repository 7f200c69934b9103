"""Evaluation of a policy: gold win rate, KL to the SFT model, and two perplexities."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bench.config import RunConfig
from bench.engines.hf import HfEngine
from bench.errors import UserError
from bench.learning.logprobs import completion_logprobs
from bench.learning.scoring import Scorer
from bench.learning.sequences import Sequences
from bench.randomness import EVALUATION, sample_seeds
from bench.tasks.base import Task
from bench.types import EvalRecord, Outcome, Rollouts, Sample, Sampling

OUTCOMES = {1.0: "win", 0.5: "tie", 0.0: "loss"}


@dataclass(frozen=True, slots=True)
class Elapsed:
    """The training done before an evaluation."""

    step: int
    episodes: int
    completions: int
    wall_s: float


class Evaluator:
    """Evaluates policies on fixed prompts with fixed draws, the same for every run and step."""

    def __init__(self, config: RunConfig, task: Task, scorer: Scorer) -> None:
        """Choose the prompts and judge their references.

        Raises:
            UserError: the split has fewer prompts than asked for.
        """
        self._config = config
        self._task = task
        self._scorer = scorer
        spec = config.evaluation
        prompts = task.prompts(spec.split)
        if len(prompts) < spec.prompts:
            raise UserError(
                f"evaluation.prompts = {spec.prompts}: split {spec.split!r} has {len(prompts)}"
            )
        self._prompts = tuple(prompts[: spec.prompts])
        self._references = task.references(self._prompts)
        self._reference_gold = task.gold_rewards(self._prompts, self._references)
        self._seeds = sample_seeds(0, EVALUATION, self._prompts, 1)

    def evaluate(
        self, policy: PreTrainedModel, at: Elapsed
    ) -> tuple[EvalRecord, list[Sample], list[Outcome]]:
        """Return the evaluation, the first few completions as text, and each prompt's outcome.

        Win rate: share of prompts whose near-greedy completion the gold judge prefers to the
        reference, ties half. KL: mean over prompts of sum_t log pi(y_t) - log pi_SFT(y_t) for one
        completion sampled at the training temperature, both models at that temperature: a Monte
        Carlo estimate of the sequence KL(pi || pi_SFT) in nats per completion. Perplexities: of the
        near-greedy completions under the SFT model at temperature 1; per completion token,
        exp(sum NLL / sum tokens), and the paper's, the mean over prompts of
        exp(NLL of the completion / length of prompt + completion), which dilutes it by the prompt.
        """
        start = time.perf_counter()
        config, spec = self._config, self._config.evaluation
        limit = spec.max_completion_tokens or config.max_completion_tokens
        greedy = self._generate_at(policy, spec.temperature, limit)
        sampled = self._generate_at(policy, config.temperature, config.max_completion_tokens)

        completions = greedy.completions()
        gold = self._task.gold_rewards(self._prompts, completions)
        sequences = Sequences.of(greedy)
        rewards = self._scorer.score(greedy, sequences, ref_logprobs=False).rewards
        wins = self._task.outcomes(gold, self._reference_gold)
        nll = -self._reference_logprobs(sequences, temperature=1.0).sum(1)
        tokens = greedy.completion_mask.sum(1)
        lengths = tokens + greedy.prompt_mask.sum(1)
        reference = self._reference_logprobs(Sequences.of(sampled), temperature=config.temperature)
        kl = (sampled.logprobs - reference).sum(1)

        record = EvalRecord(
            step=at.step,
            episodes=at.episodes,
            completions=at.completions,
            wall_s=at.wall_s,
            win_rate=float(wins.mean()),
            win_rate_n=len(wins),
            gold_mean=float(gold.mean()),
            reference_gold_mean=float(self._reference_gold.mean()),
            reward_mean=float(rewards.mean()),
            kl_nats=float(kl.mean()),
            perplexity=float(torch.exp(nll.sum() / tokens.sum())),
            perplexity_diluted=float(torch.exp(nll / lengths).mean()),
            completion_tokens_mean=float(tokens.float().mean()),
            finished_fraction=float(greedy.finished.float().mean()),
            evaluate_s=time.perf_counter() - start,
        )
        samples = self._samples(at.step, completions, gold.tolist(), rewards.tolist())
        return record, samples, self._outcomes(wins.tolist(), tokens.tolist())

    def _generate_at(self, policy: PreTrainedModel, temperature: float, limit: int) -> Rollouts:
        """Complete every prompt once."""
        tokenizer = self._task.tokenizer
        engine = HfEngine(
            policy, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
        )
        rows = self._config.evaluation.rows or self._config.microbatch_rows
        return engine.generate(
            self._prompts, Sampling(temperature, limit, rows_at_once=rows), self._seeds
        )

    @torch.no_grad()
    def _reference_logprobs(self, sequences: Sequences, *, temperature: float) -> Tensor:
        parts = sequences.split(self._config.microbatch_rows)
        reference = self._scorer.reference
        return torch.cat([completion_logprobs(reference, part, temperature) for part in parts])

    def _samples(
        self, step: int, completions: list[list[int]], gold: list[float], rewards: list[float]
    ) -> list[Sample]:
        decode = self._task.tokenizer.decode
        return [
            Sample(
                step=step,
                prompt_id=self._prompts[i].prompt_id,
                prompt=str(decode(list(self._prompts[i].token_ids))),
                completion=str(decode(completions[i])),
                reference=str(decode(list(self._references[i]))),
                gold=gold[i],
                reference_gold=float(self._reference_gold[i]),
                reward=rewards[i],
            )
            for i in range(min(self._config.evaluation.samples, len(completions)))
        ]

    def _outcomes(self, wins: list[float], tokens: list[int]) -> list[Outcome]:
        return [
            Outcome(prompt.prompt_id, OUTCOMES[win], length, len(reference))
            for prompt, win, length, reference in zip(
                self._prompts, wins, tokens, self._references, strict=True
            )
        ]
