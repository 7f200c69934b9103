"""Beyond the paper: what moves before the win rate falls?

The runs of Figure 4 and what was measured in their first quarter of training, before what they lose
is seen: against N, by loss, seeds as dots. First the final win rate. Then the effective sample size
of the completions' weights as a share of the batch (ESS/B); the second moment of a token's
log-ratio (M2) and the largest log-ratio; the share of tokens that the loss clips; the entropy of
the policy; the cosine between the gradients of consecutive batches; the length of completions. The
table says from which N on each differs from N = 1 beyond chance, beside the final win rate.

A falling ESS/B before a collapse is reported by VCPO (arXiv:2602.17616), a rising cosine by GAC
(arXiv:2603.01501).
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

import pandas as pd
from matplotlib.figure import Figure

from plots.analysis import warning
from plots.analysis.frames import Record
from plots.drawing import panels, style
from reproductions.options import Options, mini_batches
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce

PANELS = {
    "ESS/B": "Do few samples count?",
    "M2 (nats²)": "How far is the policy?",
    "largest |log-ratio|": "And at most?",
    "share clipped": "Is it held back?",
    "entropy (nats)": "Does it narrow?",
    "gradient cosine": "Do gradients align?",
    "length (tokens)": "Do lengths change?",
}


def draw(record: Record) -> Figure:
    """Draw the final win rate, then a panel per quantity."""
    early = warning.early(record)
    figure, axes = style.subplots(4, rows=2, height=4.4)
    panels.against_n(axes[0], early, labelled=False)
    axes[0].set_title("What is lost in the end?")
    for ax, (name, title) in zip(axes[1:], PANELS.items(), strict=True):
        panels.against_n(ax, early, name, labelled=False)
        ax.set_title(title)
    for ax in axes:
        ax.set_xlabel("N")
    style.key(figure, early.final)
    style.footer(figure, record.final)
    return figure


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return where each quantity moves, beside where the win rate does."""
    del options
    return warning.table(record)


REPRODUCTION = Reproduction(
    name="fig_early_warning",
    caption=__doc__,
    grid=mini_batches("ppo", "rloo", "online_dpo", "best_of_2"),
    draw=draw,
    tabulate=tabulate,
    columns=warning.COLUMNS,
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
