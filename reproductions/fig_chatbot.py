"""Figure 9: a chatbot by asynchronous Online DPO against synchronous.

The largest policy follows instructions, with answers of a length of its own choice. Annotators, and
so the reward model, like long answers more than the judge does. Arms as in Figure 1: synchronous
with engine and learner on cores of their own, taking turns (split); synchronous on all cores
(whole); and asynchronous, one step off-policy. Above: gold win rate over time and over updates,
final win rate at equal length (regressed on the difference of length to the reference, as in
length-controlled AlpacaEval). Below: proxy reward over KL, KL over updates, and mean length over
updates.

The paper (Llama-3.1-8B, No Robots, eight H100, one run each): win rate 57.2% and 57.2%, mean length
286 and 291 tokens from 198, the same reward at a lower KL, 142 in place of 230 minutes.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

import math

from matplotlib.figure import Figure

from plots.analysis import registry
from plots.analysis.frames import Record
from plots.analysis.lengths import AT_EQUAL_LENGTH
from plots.drawing import style, timelines
from plots.drawing.panels import Y_LABELS
from reproductions.options import timed_arms
from reproductions.reproduction import CLAIMS, Reproduction
from reproductions.run import reproduce

TASKS = {"worth": "chat_worth", "paper": "no_robots"}  # by preset
PRESETS = ("smoke", *TASKS)  # at smoke, where nothing is learnt, the runs are those of Figure 1
GRID = timed_arms("online_dpo", largest=True)


def draw(record: Record) -> Figure:
    """Draw the six panels."""
    equal = next(claim for claim in registry.load(CLAIMS) if claim.id == "C15b")
    figure, axes = style.subplots(3, rows=2, height=4.4)
    timelines.win_rate_over_time(axes[0], record)
    timelines.final_by_arm(axes[2], record, equal.margin, AT_EQUAL_LENGTH)
    over = {
        1: ("step", "win_rate"),
        3: ("kl_nats", "reward_mean"),
        4: ("step", "kl_nats"),
        5: ("step", "completion_tokens_mean"),
    }
    for at, (x, y) in over.items():
        timelines.curves_by_arm(axes[at], record, x, y)
        axes[at].set(xlabel=Y_LABELS.get(x, "updates"), ylabel=Y_LABELS[y])
    references = record.final["reference_tokens_mean"].mean()
    if not math.isnan(references):  # as it is where outcomes were not recorded
        axes[5].axhline(references, color=style.GREY, lw=0.8, ls=":")
        axes[5].annotate("references", (0.02, references), xycoords=("axes fraction", "data"),
                         color=style.GREY, fontsize=6.5, va="bottom")  # fmt: skip
    titles = (
        "Does asynchrony get there sooner?", "In as many updates?", "As far, at equal length?",
        "As much reward for the KL?", "At what KL?", "How long are answers?",
    )  # fmt: skip
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title)
    style.footer(figure, record.final)
    return figure


REPRODUCTION = Reproduction(
    name="fig_chatbot",
    caption=__doc__,
    grid=GRID,
    draw=draw,
    presets=PRESETS,
    tasks=TASKS,
    ranks=("timed",),
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
