"""Two arms compared prompt by prompt, from what the last evaluation of each run said of each.

It shows on which prompts two arms differ. Intervals stay over seeds (``stats``): prompts are no
replicates, as a seed moves all of them at once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd
from scipy.stats import binomtest

SCORES = {"win": 1.0, "tie": 0.5, "loss": 0.0}


def paired(outcomes: pd.DataFrame, first: Collection[str], second: Collection[str]) -> pd.DataFrame:
    """Return two arms side by side, a row per prompt that both were evaluated on.

    Args:
        outcomes: rows of table ``outcomes``, as ``bench.records.store.read`` returns them. Runs
            from before there was this table have none, and count for nothing here.
        first: ids of an arm's runs: its seeds. Leave out what diverged: its rows are of an
            evaluation before that.
        second: those of the other arm, of the same seeds.

    Returns:
        By ``prompt_id``, means over the runs of an arm: win rates ``first`` and ``second`` (a tie
        counts half), their ``difference`` first - second, lengths of completions
        ``first_tokens`` and ``second_tokens``; and ``reference_tokens``. Where all runs have the
        same prompts, the mean of ``difference`` is that of the arms' final win rates. Empty if an
        arm has no outcomes.
    """
    one, other = (_by_prompt(outcomes, runs) for runs in (first, second))
    prompts = one.index.intersection(other.index)
    one, other = one.loc[prompts], other.loc[prompts]
    return pd.DataFrame(
        {
            "first": one["score"],
            "second": other["score"],
            "difference": one["score"] - other["score"],
            "first_tokens": one["completion_tokens"],
            "second_tokens": other["completion_tokens"],
            "reference_tokens": one["reference_tokens"],
        }
    )


@dataclass(frozen=True, slots=True)
class Discordance:
    """On how many prompts one of two runs won and the other did not, and McNemar's exact p-value.

    The test is of equal chances, two-sided, of one pair of runs: what it says, it says of these two
    policies and not of their methods, which other seeds may order the other way round.
    """

    first_only: int
    second_only: int
    p: float


def mcnemar(outcomes: pd.DataFrame, first: str, second: str) -> Discordance | None:
    """Compare two runs on the prompts that both were evaluated on; None: there are none.

    Args:
        outcomes: see ``paired``.
        first: id of a run.
        second: of the other.
    """
    both = paired(outcomes, [first], [second])
    if both.empty:
        return None
    one, other = both["first"] == 1, both["second"] == 1
    ahead, behind = int((one & ~other).sum()), int((other & ~one).sum())
    p = float(binomtest(ahead, ahead + behind).pvalue) if ahead + behind else 1.0
    return Discordance(ahead, behind, p)


def _by_prompt(outcomes: pd.DataFrame, run_ids: Collection[str]) -> pd.DataFrame:
    rows = outcomes[outcomes["run_id"].isin(list(run_ids))]
    rows = rows.assign(score=rows["outcome"].map(SCORES).astype(float))
    means = rows.groupby("prompt_id")[["score", "completion_tokens", "reference_tokens"]].mean()
    return means.astype({"reference_tokens": int})
