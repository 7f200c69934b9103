"""The losses and corrections that ``fig_modern_losses`` compares, by name and family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench import algorithms as registry
from bench.config import RunConfig
from bench.experiments.preset import Preset
from bench.staleness import Schedule, reuse

NO_CLIP = 1e6  # a clip range that no ratio leaves upwards; downwards it stops none


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A loss as one series of the figure has it.

    Attributes:
        name: of the series, which begins with the algorithm's.
        algorithm: its name.
        params: in place of the preset's.
        off_policy: the same, that change nothing on fresh data and are left out there.
        batch: prompts per batch, times the preset's.
        by_n: whether it is run under ``reuse``.
        by_lag: whether it is run under ``lag``.
        further_n: N beyond the figure's.
        lags: in place of half of each N.
    """

    name: str
    algorithm: str
    params: Mapping[str, Any] = field(default_factory=dict)
    off_policy: Mapping[str, Any] = field(default_factory=dict)
    batch: float = 1.0
    by_n: bool = True
    by_lag: bool = True
    further_n: Sequence[int] = ()
    lags: Sequence[int] = ()

    def takes(self, schedule: Schedule) -> bool:
        """Return whether the series has runs under this schedule."""
        if schedule.kind == "lag":
            return self.by_lag and (not self.lags or schedule.n in self.lags)
        return self.by_n

    def cell(self, preset: Preset, schedule: Schedule) -> RunConfig:
        """Return the run under a schedule, seed 0, its learning rate decaying per update."""
        run = preset.run_config(self.algorithm, schedule, lr_schedule="per_update")
        params = {**run.algorithm.identity(), **self.params}
        if schedule != reuse(1):
            params |= self.off_policy
        return replace(
            run,
            algorithm=registry.build(self.algorithm, params),
            prompts_per_batch=max(1, int(self.batch * run.prompts_per_batch)),
        )


def _decoupled(name: str | None, **params: Any) -> dict[str, Any]:
    correction = {} if name is None else {"correction": {"name": name, **params}}
    return {"old_logprobs": "decoupled", **correction}


CORRECTIONS: dict[str, dict[str, Any]] = {
    "proximal": {"old_logprobs": "proximal"},
    "decoupled": _decoupled(None),
    "token TIS": _decoupled("importance_weight", cap=2.0),
    "sequence TIS": _decoupled("importance_weight", level="sequence", cap=2.0),
    "IcePop": _decoupled("masked_importance_weight"),
    # The published .999 to 1.001 are for thousands of tokens; at 14 a mean varies 17 times as much.
    "geometric mask": _decoupled("geometric_mask", low=0.98, high=1.02),
    "second moment": _decoupled("second_moment_mask"),
}
PAPER = ("ppo", "rloo", "online_dpo")
TOKENS = ("grpo", "dapo", "dr_grpo", "cispo", "m2po", "sapo", "dppo")
COMPLETIONS = ("gspo", "gspo_scaled", "topr", "vespo", "asymre", "rloo_nll", "rloo_vanilla")
REGRESSIONS = ("copg", "rebel", "kimi", "oapl")
NORMALISING = ("grpo", "dapo", "gspo", "gspo_scaled", "cispo", "m2po", "sapo", "dppo")
BATCHES = (0.5, 1, 2)  # of a claim on token and sequence weights

# With K = 2 this coefficient gives ``rloo_nll`` the gradient of ``asymre``, times 2.
_OWN: dict[str, dict[str, Any]] = {"rloo_nll": {"nll_coef": 0.2}}


def _variants() -> list[Variant]:
    found = [
        Variant(
            name=name,
            algorithm=name,
            params=_OWN.get(name, {}),
            further_n=(128,) if name == "online_dpo" else (),
        )
        for name in (*PAPER, *TOKENS, *COMPLETIONS, *REGRESSIONS)
    ]
    shift = {"baseline_shift": 0.0}
    found.append(Variant(name="asymre (dV = 0)", algorithm="asymre", params=shift))
    unclipped = {"clip_range": NO_CLIP}
    found.append(Variant(name="grpo (no clip)", algorithm="grpo", off_policy=unclipped))
    for name, off_policy in CORRECTIONS.items():
        found.append(Variant(name=f"grpo ({name})", algorithm="grpo", off_policy=off_policy))
    twice, four = {"epochs": 2}, {"completions_per_prompt": 4}
    found += [
        Variant(name=f"{name} (T = 2)", algorithm=name, params=twice) for name in ("grpo", "cispo")
    ]
    found += [
        Variant(name=f"grpo ({name}, T = 2)", algorithm="grpo", params=twice, off_policy=off_policy)
        for name, off_policy in CORRECTIONS.items()
    ]
    found += [
        Variant(name=f"{name} (K = 4)", algorithm=name, params=four, batch=0.5, by_lag=False)
        for name in NORMALISING
    ]
    found += [
        Variant(
            name=f"grpo ({name}, batch x{batch:g})",
            algorithm="grpo",
            off_policy=CORRECTIONS[name],
            batch=batch,
            by_n=False,
            lags=(8,),
        )
        for name in ("sequence TIS", "token TIS")
        for batch in BATCHES
    ]
    return found


VARIANTS = _variants()
RANKED = (
    *PAPER, *TOKENS, *COMPLETIONS, *REGRESSIONS, "asymre (dV = 0)", "grpo (no clip)",
    *(f"grpo ({name})" for name in CORRECTIONS),
)  # fmt: skip
FAMILIES: dict[str, tuple[str, ...]] = {
    "The paper's": PAPER,
    "Tokens": TOKENS,
    "Completions": (*COMPLETIONS, "asymre (dV = 0)"),
    "Regressions": REGRESSIONS,
    "GRPO, corrected": (
        "grpo", "grpo (no clip)", *(f"grpo ({name})" for name in CORRECTIONS),
    ),
    "T = 2 steps per batch": (
        "grpo (T = 2)", "cispo (T = 2)", *(f"grpo ({name}, T = 2)" for name in CORRECTIONS),
    ),
    "K = 4 completions": tuple(f"{name} (K = 4)" for name in NORMALISING),
}  # fmt: skip
