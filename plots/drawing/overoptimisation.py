"""Panels of runs that are pushed beyond their peak: the whole way of every seed."""

from __future__ import annotations

from matplotlib.axes import Axes

from plots.analysis import overlap
from plots.analysis.frames import Record
from plots.drawing import style


def trajectories(ax: Axes, record: Record, y: str) -> None:
    """Draw ``y`` against KL over training at N = 1: seeds thin, per arm the mean of all thick.

    Colour is the size of the reward model. The runs with the most updates are solid, others are
    dashed. A dot is where the mean gold win rate of an arm is highest. A diverged run ends in a
    cross and counts in no mean.
    """
    curves = record.curves
    columns = list(dict.fromkeys(["kl_nats", "win_rate", y]))
    longest = curves["updates"].max()
    for size, colour in style.size_colours(reward_sizes(record)).items():
        arms = curves[curves["reward_model"] == size].groupby(["updates", "learning_rate"])
        for (updates, _), runs in arms:
            dashes = "-" if updates == longest else "--"
            for _, run in runs.groupby("run_id"):
                ax.plot(run["kl_nats"], run[y], color=colour, ls=dashes, lw=0.4, alpha=0.35)
            lost = runs[runs["status"] == "diverged"].groupby("run_id").tail(1)
            ax.plot(lost["kl_nats"], lost[y], "x", color=colour, ms=4)
            mean = runs[runs["status"] != "diverged"].groupby("step")[columns].mean().dropna()
            ax.plot(mean["kl_nats"], mean[y], color=colour, ls=dashes, lw=1.4)
            if len(mean):
                at = int(mean["win_rate"].to_numpy().argmax())
                ax.plot(mean["kl_nats"].iloc[at], mean[y].iloc[at], "o", color=colour, ms=4.5,
                        mec="white", mew=0.5, zorder=3)  # fmt: skip


def key(ax: Axes, record: Record, dashed: str, solid: str) -> None:
    """Name the sizes of reward models and what the two kinds of lines are."""
    for size, colour in style.size_colours(reward_sizes(record)).items():
        ax.plot([], [], color=colour, lw=1.5, label=f"reward model {size}")
    ax.plot([], [], color=style.GREY, lw=1.4, label=solid)
    ax.plot([], [], color=style.GREY, lw=1.4, ls="--", label=dashed)


def reward_sizes(record: Record) -> list[str]:
    """Return the sizes of reward models, smallest first."""
    return sorted(record.final["reward_model"].unique(), key=overlap.parameters)
