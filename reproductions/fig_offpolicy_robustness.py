"""Figure 4: which losses withstand off-policy data.

PPO, RLOO, Online DPO and Best-of-2 fine-tuning, each trained on data up to N - 1 updates stale
(``reuse(N)``, N = 1..64), hyper-parameters tuned at N = 1 only. Top: final gold win rate against
final KL to the SFT model, a line through each algorithm's N and, thin, the ways to them; final win
rate against N; off-policy tolerance (OPT), the gain over SFT that is retained, averaged over
log2 N. Bottom: the updates to half of the best gain over SFT at N = 1; the mean win rate over
training against N, which differs even where all end at the ceiling; its OPT.

The paper (Pythia 410M, TL;DR, one run per point): PPO is best on-policy and degrades fast, RLOO
likewise; Online DPO loses least; Best-of-2 is not robust. So the contrastive loss makes Online DPO
robust, not the choice between two samples.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

import pandas as pd
from matplotlib.figure import Figure

from plots.analysis import tolerances
from plots.analysis.frames import Record
from plots.drawing import panels, style, targets
from reproductions.options import Options, mini_batches
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce


def draw(record: Record) -> Figure:
    """Draw the six panels."""
    figure, axes = style.subplots(3, ratios=(1, 1.3, 1), rows=2, height=5.0)
    panels.frontier_ends(axes[0], record)
    panels.against_n(axes[1], record)
    panels.tolerance_bars(axes[2], record)
    targets.updates_to_half(axes[3], record)
    panels.against_n(axes[4], record, "win_rate_area")
    panels.tolerance_bars(axes[5], record, "win_rate_area")
    axes[0].set_title("Bought with KL?")
    axes[1].set_title("Which losses withstand stale data?")
    axes[2].set_title("How much gain is kept?")
    axes[3].set_title("How soon?")
    axes[4].set_title("And on the way there?")
    axes[5].set_title("On the way there?")
    style.footer(figure, record.final)
    return figure


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return each algorithm's off-policy tolerance with its interval, and N80, by outcome."""
    del options
    return tolerances.table(record)


REPRODUCTION = Reproduction(
    name="fig_offpolicy_robustness",
    caption=__doc__,
    grid=mini_batches("ppo", "rloo", "online_dpo", "best_of_2"),
    draw=draw,
    tabulate=tabulate,
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
