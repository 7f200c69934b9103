"""Figure 4: which losses withstand off-policy data.

PPO, RLOO, Online DPO and Best-of-2 fine-tuning, each trained on data up to N - 1 updates stale
(``reuse(N)``, N = 1..64), hyper-parameters tuned at N = 1 only. Left: final gold win rate against
final KL to the SFT model, a line through each algorithm's N. Middle: final win rate against N.
Right: off-policy tolerance (OPT), the gain over SFT that is retained, averaged over log2 N.

The paper (Pythia 410M, TL;DR, one run per point): PPO is best on-policy and degrades fast, RLOO
likewise; Online DPO loses least; Best-of-2 is not robust. So the contrastive loss makes Online DPO
robust, not the choice between two samples.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

import math

import pandas as pd
from matplotlib.figure import Figure

from plots.analysis import stats
from plots.analysis.frames import Record
from plots.drawing import panels, style
from reproductions.options import Options, mini_batches
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce


def draw(record: Record) -> Figure:
    """Draw the three panels."""
    figure, (left, middle, right) = style.subplots(3, ratios=(1, 1.3, 1))
    panels.frontier_ends(left, record)
    panels.against_n(middle, record)
    panels.tolerance_bars(right, record)
    left.set_title("Bought with KL?")
    middle.set_title("Which losses withstand stale data?")
    right.set_title("How much gain is kept?")
    style.footer(figure, record.final)
    return figure


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return each algorithm's off-policy tolerance with its interval, and N80."""
    del options
    rows = []
    for name in record.final["algorithm"].unique():
        grid = record.n_values(name)
        wins = record.by_n(name, grid)
        sft = record.by_n(name, grid, "sft_win_rate")[grid[0]].reindex(wins.index)
        found = stats.tolerance(wins, sft, grid)
        opt = found.opt or stats.Interval(math.nan, math.nan, math.nan, len(wins))
        bound = "> " if found.n80_censored else ""
        rows.append(
            {
                "algorithm": name,
                "opt": opt.estimate,
                "lo": opt.lo,
                "hi": opt.hi,
                "n80": f"{bound}{found.n80:.0f}" if found.opt else "",
                "n_max": found.n_max,
                "seeds": opt.n,
                "note": found.reason,
                "tuned": name not in record.untuned(),
            }
        )
    return pd.DataFrame(rows)


REPRODUCTION = Reproduction(
    name="fig_offpolicy_robustness",
    caption=__doc__,
    grid=mini_batches("ppo", "rloo", "online_dpo", "best_of_2"),
    draw=draw,
    tabulate=tabulate,
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
