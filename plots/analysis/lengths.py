"""Win rates at equal length: what is left of a win rate once longer answers win no more for that.

Source: length-controlled AlpacaEval, arXiv:2404.04475, with one model and without its term for the
difficulty of the instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, special

from plots.analysis.estimands import Effects, overlapped_minus_split
from plots.analysis.frames import Record
from plots.analysis.outcomes import SCORES
from plots.analysis.stats import FloatArray

AT_EQUAL_LENGTH = "win_rate_at_equal_length"
RIDGE = 0.01  # of the log-likelihood: keeps coefficients finite where all prompts are won


def win_rate_at_equal_length(scores: ArrayLike, extra_tokens: ArrayLike) -> float:
    """Return the win rate of completions that are as long as their references.

    Fitted is ``P(win) = sigmoid(a + b tanh(d / sd(d)))`` by maximum likelihood over prompts, d
    being how much longer the completion is than the reference. Returned is ``sigmoid(a)``.

    Args:
        scores: [P] 1 won, 0.5 equal, 0 lost; a tie counts as half a win and half a loss.
        extra_tokens: [P] d, tokens of the completion minus those of the reference.
    """
    y, d = np.asarray(scores, dtype=np.float64), np.asarray(extra_tokens, dtype=np.float64)
    spread = d.std()
    x = np.stack([np.ones_like(d), np.tanh(d / spread) if spread > 0 else 0 * d], axis=1)

    def loss(coefficients: FloatArray) -> tuple[float, FloatArray]:
        logits = x @ coefficients
        value = np.logaddexp(0, logits).sum() - y @ logits + RIDGE / 2 * coefficients @ coefficients
        return float(value), x.T @ (special.expit(logits) - y) + RIDGE * coefficients

    return float(special.expit(optimize.minimize(loss, np.zeros(2), jac=True).x[0]))


def by_run(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return ``win_rate_at_equal_length`` and ``reference_tokens_mean``, by ``run_id``.

    Args:
        outcomes: rows of table ``outcomes``: what the last evaluation said of each prompt.
    """
    rows = outcomes.assign(
        score=outcomes["outcome"].map(SCORES).astype(float),
        extra=outcomes["completion_tokens"] - outcomes["reference_tokens"],
    )
    return pd.DataFrame(
        [
            (run_id, win_rate_at_equal_length(run["score"], run["extra"]),
             run["reference_tokens"].mean())
            for run_id, run in rows.groupby("run_id")
        ],
        columns=["run_id", AT_EQUAL_LENGTH, "reference_tokens_mean"],
    )  # fmt: skip


def add_lengths(record: Record, outcomes: pd.DataFrame) -> Record:
    """Return a record with the columns of ``by_run`` in ``final``.

    A diverged run counts at its SFT win rate, as in the win rate itself.
    """
    final = record.final.merge(by_run(outcomes), on="run_id", how="left")
    lost = final["status"] == "diverged"
    final.loc[lost, AT_EQUAL_LENGTH] = final.loc[lost, "sft_win_rate"]
    return replace(record, final=final)


def overlapped_minus_split_at_equal_length(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return ``overlapped_minus_split`` of the win rate at equal length, whatever ``y`` is."""
    del y
    if AT_EQUAL_LENGTH not in record.final:
        return Effects()
    return overlapped_minus_split(record, algorithms, n, AT_EQUAL_LENGTH)
