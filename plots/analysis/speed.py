"""Estimands of time: speed-ups, from a record to one effect per seed or round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from plots.analysis import overlap
from plots.analysis.estimands import Effects
from plots.analysis.frames import Record
from plots.analysis.stats import FloatArray


def speed_up(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's time per update, synchronous over overlapped, minus 1; largest model."""
    del n
    table = overlap.arms(record, algorithms[0])
    if table.empty:
        return Effects()
    gains = overlap.gains(table)
    note = (
        f"ideal {gains['ideal'].mean() - 1:+.2f}; against all cores "
        f"{gains['speed_up_whole'].mean() - 1:+.2f}"
    )
    return Effects((gains["speed_up"] - 1).to_numpy(), tuple(gains.index), note=note)


def speed_up_per_size(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's rise of the speed-up from the smallest to the largest model."""
    del n
    sizes = overlap.sizes(record)
    tables = [overlap.arms(record, algorithms[0], size) for size in (*sizes[:1], *sizes[-1:])]
    if len(sizes) < 2 or any(table.empty for table in tables):
        return Effects()
    small, large = (overlap.gains(table)["speed_up"] for table in tables)
    rise = (large - small).dropna()
    return Effects(rise.to_numpy(), tuple(rise.index))


def short_of_ideal(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each seed's share of the possible saving that is not made; largest model."""
    del n
    table = overlap.arms(record, algorithms[0])
    if table.empty:
        return Effects()
    lost = (1e3 * overlap.losses(table).mean()).round() + 0.0  # no minus zero
    note = ", ".join(f"{name.replace('_', '-')} {lost[name]:+.0f} ms" for name in lost.index)
    short = 1 - overlap.gains(table)["efficiency"]
    return Effects(short.to_numpy(), tuple(short.index), note=f"lost per update: {note}")


def engine_gain(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each round's speed of vLLM over that of transformers, minus 1; largest model."""
    del algorithms, n
    ratios = _engine_ratios(record.throughput)
    return _over_rounds(ratios[-1] - 1) if ratios else Effects()


def engine_gain_per_size(record: Record, algorithms: Sequence[str], n: Sequence[int]) -> Effects:
    """Return each round's rise of the same ratio from the smallest model to the largest."""
    del algorithms, n
    ratios = _engine_ratios(record.throughput)
    return _over_rounds(ratios[-1] - ratios[0]) if len(ratios) > 1 else Effects()


def _over_rounds(values: FloatArray) -> Effects:
    note = "the interval is over rounds on one machine, not over seeds"
    return Effects(values, tuple(range(len(values))), note=note)


def _engine_ratios(frame: pd.DataFrame) -> list[FloatArray]:
    """Return transformers' time over vLLM's, by round, per model that both serve, smallest first.

    In every round both generate the same number of tokens, one after the other. Of the batch sizes
    the largest counts.
    """
    if frame.empty:
        return []
    rows = frame[(frame["benchmark"] == "generation") & (frame["rows"] == frame["rows"].max())]
    times = rows.pivot(index="model", columns="series", values="rounds_s")
    both = times.reindex(columns=["transformers_generate", "vllm"]).dropna()
    both = both.sort_index(key=lambda models: models.map(overlap.parameters))
    return [np.divide(library, engine) for library, engine in both.to_numpy()]
