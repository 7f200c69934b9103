"""Over-optimisation: gold win rate falls while the proxy reward, which is trained on, rises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from plots.analysis import stats
from plots.analysis.estimands import Effects
from plots.analysis.frames import Record

ARM = ["model", "reward_model", "learning_rate", "updates"]
CLEAR = 0.03  # a fall of the gold win rate that counts


def falls(record: Record) -> pd.DataFrame:
    """Return what each run does from the peak of the gold win rate to the end of training.

    The peak is where the mean over the arm's *other* seeds is highest. A run's own highest
    evaluation is partly luck, and from it every noisy curve falls.

    Returns:
        One row per run: ``algorithm``, ``n``, the columns of its arm, ``seed``; ``peak_step``;
        ``sft``, ``peak`` and ``end``, win rates; ``fall``, peak minus end; ``proxy_rise``, the
        proxy reward's end minus that at the peak. Diverged runs, which have no end, are left out,
        and so is an arm with a single seed.
    """
    sound = record.curves[record.curves["status"] != "diverged"]
    keys = ["algorithm", "n", *ARM]
    rows = []
    for key, runs in sound.groupby(keys, sort=False):
        gold, proxy = (
            runs.pivot(index="step", columns="seed", values=y).dropna(axis="columns")
            for y in ("win_rate", "reward_mean")
        )
        seeds = [seed for seed in gold.columns if seed in proxy.columns]
        for seed in seeds if len(seeds) > 1 else ():
            others = gold[seeds].drop(columns=seed).mean(axis="columns").to_numpy()
            at = int(others.argmax())
            wins, rewards = gold[seed].to_numpy(), proxy[seed].to_numpy()
            rows.append(
                {
                    **dict(zip(keys, key, strict=True)),
                    "seed": seed,
                    "peak_step": gold.index[at],
                    "sft": wins[0],
                    "peak": wins[at],
                    "end": wins[-1],
                    "fall": wins[at] - wins[-1],
                    "proxy_rise": rewards[-1] - rewards[at],
                }
            )
    numbers = ["seed", "peak_step", "sft", "peak", "end", "fall", "proxy_rise"]
    return pd.DataFrame(rows, columns=[*keys, *numbers])


def over_optimised(runs: pd.DataFrame) -> pd.Series[bool]:
    """Return of which runs of ``falls`` gold fell by ``CLEAR`` or more while the proxy rose."""
    return (runs["fall"] >= CLEAR) & (runs["proxy_rise"] > 0)


def fall_while_proxy_rises(
    record: Record, algorithms: Sequence[str], n: Sequence[int], y: str = "win_rate"
) -> Effects:
    """Return each seed's fall of the gold win rate from its peak, averaged over the arms.

    See ``falls``. A run whose proxy reward does not rise over the same stretch counts with no fall:
    it is not over-optimised. A seed counts if it has every arm.
    """
    del y
    runs = falls(record.where(algorithm=algorithms[0], n=n[0]))
    if runs.empty:
        return Effects()
    rises = runs["proxy_rise"] > 0
    runs["counted"] = runs["fall"].where(rises, np.minimum(runs["fall"], 0.0))
    tables = {
        name: runs.pivot_table(index="seed", columns=ARM, values=name).dropna()
        for name in ("counted", "sft", "peak", "end")
    }
    seeds = tuple(tables["counted"].index)
    gains = (tables["peak"] - tables["sft"]).mean(axis="columns")
    clear = int(over_optimised(runs).sum())
    return Effects(
        tables["counted"].mean(axis="columns").to_numpy(),
        seeds,
        tuple(float(tables[name].mean().mean()) for name in ("peak", "end")),
        note=f"gold fell by {CLEAR} or more while the proxy rose in {clear} of {len(runs)} runs",
        failure="" if stats.clear_gain(gains) else "no clear gain over SFT at the peak",
    )
