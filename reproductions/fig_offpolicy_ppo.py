"""Figure 3: how PPO fares as its data become off-policy.

Each generation round makes N mini-batches of data, all from one policy, and trains on them in
turn, so that the last of them is N - 1 updates stale. Left: gold win rate over episodes; middle: KL
to the SFT model over episodes; right: win rate against KL. One colour per N, N = 1..64.

The paper (Pythia 410M, TL;DR, one run per N): N = 1 is best, the win rate falls with log N, and all
N lie on one win rate / KL curve, along which a larger N gets less far.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

from matplotlib.figure import Figure

from plots.analysis.frames import Record
from plots.drawing import panels, style
from reproductions.options import mini_batches
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce


def draw(record: Record) -> Figure:
    """Draw the three panels, for one algorithm."""
    figure, (left, middle, right) = style.subplots(3)
    panels.against_episodes(left, record)
    panels.n_key(left, record)
    panels.series_key(right, record)
    panels.against_episodes(middle, record, "kl_nats")
    panels.frontier_paths(right, record)
    name = record.final["algorithm"].iloc[0]
    label = style.looks_of(record.final)[name].label
    left.set_title(f"Does stale data cost {label} win rate?")
    middle.set_title("How far does it move?")
    right.set_title("Along one frontier?")
    style.footer(figure, record.final)
    return figure


REPRODUCTION = Reproduction(
    name="fig_offpolicy_ppo",
    caption=__doc__,
    grid=mini_batches("ppo", most=1),
    draw=draw,
    ranks=("n",),
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
