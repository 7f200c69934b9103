"""Panels over the size of the policy or of its reward model. Every seed is drawn, as in ``panels``.

A size has a colour; algorithms beside the first are dashed and have markers of their own.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from plots.analysis import sizes, stats
from plots.analysis.frames import Record
from plots.analysis.sizes import Swept
from plots.drawing import panels, style

MARKERS = "osD^"
WORDS = {"model": "policy", "reward_model": "reward model"}


def frontier(ax: Axes, record: Record, swept: Swept) -> None:
    """Draw final win rate against final KL by size, with the mean paths there, thin.

    A point is one N; the first and the last N of each size are written beside theirs.
    """
    arms = sizes.arms(record, swept)
    for (size, arm), colour in zip(
        arms.items(), style.size_colours(list(arms)).values(), strict=True
    ):
        for at, (curves, dashes) in enumerate(panels.series(arm.curves)):
            panels.ways_there(ax, curves, colour, dashes)
            runs = arm.final[arm.final["algorithm"] == curves["algorithm"].iloc[0]]
            panels.final_cells(ax, runs, colour, MARKERS[at % len(MARKERS)])
        ax.plot([], [], color=colour, lw=1.5, label=size)
    panels.ceiling_level(ax, record, 0.02, "left")
    ax.legend(title=WORDS[swept], title_fontsize=7, loc="lower right", handlelength=1.2)
    ax.set(xlabel=panels.Y_LABELS["kl_nats"], ylabel=panels.Y_LABELS["win_rate"])
    panels.say_if_one_seed(ax, record)
    say_if_one_size(ax, len(arms), swept, 0.86)


def retained(ax: Axes, record: Record, swept: Swept) -> None:
    """Draw the retained gain against N by size: seeds as dots, mean with interval.

    Of a size without a clear gain at N = 1 nothing is drawn but a line of text that says so.
    """
    arms = sizes.arms(record, swept)
    style.log2_axis(ax, record.final["n"])
    ax.axhline(1.0, color=style.GREY, lw=0.8, ls="--", zorder=1)
    labels, without = [], []
    for i, ((size, arm), colour) in enumerate(
        zip(arms.items(), style.size_colours(list(arms)).values(), strict=True)
    ):
        beside = 2 ** (0.12 * (i - (len(arms) - 1) / 2))
        for at, (curves, dashes) in enumerate(panels.series(arm.curves)):
            name = curves["algorithm"].iloc[0]
            n = arm.n_values(name)
            wins = arm.by_n(name, n)
            sft = arm.by_n(name, n, "sft_win_rate").reindex(wins.index)[n[0]]
            if n[0] != 1 or not stats.clear_gain(wins[1] - sft):
                without.append(size)
                continue
            shares = np.stack(
                [stats.ratio_effects(wins[value] - sft, wins[1] - sft) for value in n], axis=1
            )
            means = stats.retention(wins, sft)
            x = np.array(n) * beside
            ax.plot(x, [mean.estimate for mean in means], color=colour, lw=1.0, ls=dashes)
            ax.plot(x, shares.T, ".", color=colour, **panels.SEED_DOT)
            for value, mean in zip(x, means, strict=True):
                ax.errorbar(value, mean.estimate, yerr=panels.sides(mean), color=colour,
                            fmt=MARKERS[at % len(MARKERS)], **panels.MEAN_POINT)  # fmt: skip
            if not at:  # the other algorithms' lines have the same colour
                labels.append((means[-1].estimate, size, colour))
    ax.set_ylabel("retained gain")
    if without:
        text = f"no clear gain at N = 1: {', '.join(dict.fromkeys(without))}"
        ax.text(0.02, 0.02, text, transform=ax.transAxes, color=style.GREY, fontsize=6.5)
    if labels:
        style.end_labels(ax, max(record.final["n"]) * 2**0.2, labels)
    say_if_one_size(ax, len(arms), swept, 0.1)


def say_if_one_size(ax: Axes, count: int, swept: Swept, y: float) -> None:
    """Say in a panel of a single size that it cannot show what it asks, at height ``y``."""
    if count < 2:
        ax.text(0.02, y, f"one size of {WORDS[swept]}: no comparison", transform=ax.transAxes,
                color=style.GREY, fontsize=6.5)  # fmt: skip
