"""Off-policy tolerance of every algorithm of a record, as a table."""

from __future__ import annotations

import math
from itertools import product

import pandas as pd

from plots.analysis import estimands, stats
from plots.analysis.frames import Record
from plots.analysis.registry import COLUMNS


def table(record: Record) -> pd.DataFrame:
    """Return OPT with its interval and N80 by outcome and algorithm.

    Raises:
        ValueError: the record has several arms.
    """
    rows = []
    for outcome, name in product(COLUMNS, record.final["algorithm"].unique()):
        found = estimands.tolerance(record, name, COLUMNS[outcome])
        complete = record.by_n(name, record.n_values(name), COLUMNS[outcome])
        opt = found.opt or stats.Interval(math.nan, math.nan, math.nan, len(complete))
        rows.append(
            {
                "outcome": outcome,
                "algorithm": name,
                "opt": opt.estimate,
                "lo": opt.lo,
                "hi": opt.hi,
                "n80": found.n80_text,
                "n_max": found.n_max,
                "seeds": opt.n,
                "note": found.reason,
                "tuned": name not in record.untuned(),
            }
        )
    return pd.DataFrame(rows)
