"""Figure 4: which losses withstand off-policy data.

PPO, RLOO, Online DPO and Best-of-2 fine-tuning, each trained on data up to N - 1 updates stale
(``reuse(N)``, N = 1..64), hyper-parameters tuned at N = 1 only. Left: final gold win rate against
final KL to the SFT model, a line through each algorithm's N. Middle: final win rate against N.
Right: off-policy tolerance (OPT), the gain over SFT that is retained, averaged over log2 N.

The paper (Pythia 410M, TL;DR, one run per point): PPO is best on-policy and degrades fast, RLOO
likewise; Online DPO loses least; Best-of-2 is not robust, so that it is the contrastive loss, not
the choice between two samples, that makes Online DPO robust.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from plots import panels, style
from plots.frames import Record
from reproductions import Reproduction, reproduce
from reproductions.options import mini_batches


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


REPRODUCTION = Reproduction(
    name="fig_offpolicy_robustness",
    caption=__doc__,
    grid=mini_batches("ppo", "rloo", "online_dpo", "best_of_2"),
    draw=draw,
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
