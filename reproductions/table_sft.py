"""Appendix table: where RL starts from, per model size.

Gold win rate of the SFT model against the reference, its KL to itself (0 by definition), its
perplexity per completion token and, as the paper reports it, diluted by the prompt; and how often
the reward model agrees with the gold judge on pairs of the SFT model's samples. Evaluated as every
RL run is before its first update.

The paper (TL;DR, win rate / diluted perplexity): Pythia 410M 25.4% / 1.075, 1B 26.8% / 1.071,
2.8B 35.2% / 1.068.
"""

from __future__ import annotations

import bench  # noqa: F401 (first: from here on Ctrl-C is one line)

# isort: split

import json

import pandas as pd

from bench.config import RunConfig
from bench.staleness import ON_POLICY
from plots.analysis.frames import Record
from reproductions.options import Options
from reproductions.reproduction import Reproduction
from reproductions.run import reproduce

EVALUATED = ["win_rate", "kl_nats", "perplexity", "perplexity_diluted", "completion_tokens_mean"]


def grid(options: Options) -> list[RunConfig]:
    """Return one run per size: a single update, before which the SFT model is evaluated."""
    preset = options.preset
    return [preset.run_config("rloo", ON_POLICY, model=model, updates=1) for model in preset.models]


def tabulate(record: Record, options: Options) -> pd.DataFrame:
    """Return one row per size."""
    start = record.curves[record.curves["step"] == 0].assign(kl_nats=0.0)
    agreement = _agreement(options)
    table = start[["model", *EVALUATED]].assign(
        reward_agreement=start["weights_digest"].map(agreement)
    )
    order = list(options.preset.models)
    return table.sort_values("model", key=lambda column: column.map(order.index))


def _agreement(options: Options) -> dict[str, float]:
    """Return what was measured when each reward model was trained, by the weights digest of runs.

    A provenance file that cannot be read is passed over: the table then lacks its number.
    """
    found = {}
    for place in (options.results_dir, options.record_dir):
        for path in sorted(place.glob("checkpoints/reward-*/provenance.json")):
            try:
                made = json.loads(path.read_text(encoding="utf-8"))
                found[str(made["pair_digest"])] = float(made["reward_agreement"])
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
    return found


REPRODUCTION = Reproduction(
    name="table_sft",
    caption=__doc__,
    grid=grid,
    tabulate=tabulate,
    every_seed=False,
    ranks=("model",),
)

if __name__ == "__main__":
    reproduce(REPRODUCTION)
