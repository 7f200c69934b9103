"""One of several ranks, hosted by a worker: what all of them do together."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from bench.algorithms import ALGORITHMS, build
from bench.config import RunConfig
from bench.learning.parallel import ALONE, ProcessGroup, Ranks, RanksError
from bench.loop import follow
from bench.staleness import ON_POLICY, lag

from .. import runs

SIZES = (2, 3)


class Interrupted(Exception):
    pass


def config(algorithm, schedule=ON_POLICY) -> RunConfig:
    """Return a run whose micro-batches are the same whatever the number of ranks.

    So all that differs is the order in which their gradients are added.
    """
    return replace(
        runs.config(schedule),
        algorithm=algorithm,
        updates=3,
        prompts_per_batch=6,
        microbatch_rows=2,
    )


def configs() -> dict[str, RunConfig]:
    """Return a run of every algorithm, one with log-probs of its own, and one that diverges."""
    found = {name: config(build(name)) for name in ALGORITHMS}
    found["proximal"] = config(build("rloo", {"old_logprobs": "proximal", "epochs": 2}))
    found["diverges"] = replace(config(build("rloo")), learning_rate=1e30)
    return found


RESUMED = config(build("ppo"), lag(1))


def make(run: RunConfig, ranks: Ranks):
    """Return a run and its learner, in double precision.

    Adam makes a whole step of a gradient that is rounding alone, as that of a key's bias is. In
    double precision it is far below Adam's epsilon.
    """
    this, learner = runs.run(run, runs.inline(run) if ranks.rank == 0 else None, ranks=ranks)
    for model in (learner.policy, learner.value_model):
        if model is not None:
            model.double()
    return this, learner


def weights(learner) -> np.ndarray:
    return torch.cat([p.detach().flatten() for p in learner._parameters]).numpy()


def two_updates(ranks: Ranks = ALONE) -> dict[str, tuple[np.ndarray, list]]:
    """Return the weights of ``configs`` after two updates on the same batch, and the losses."""
    found = {}
    source = runs.inline(RESUMED)
    _, learner = make(RESUMED, ALONE)
    source.publish(learner.snapshot())
    rollouts = source.next() if ranks.rank == 0 else None
    for name, run in configs().items():
        _, learner = make(run, ranks)
        learner.align()
        losses = [learner.step(rollouts).loss for _ in range(2)]
        found[name] = weights(learner), losses
    return found


def interrupted(directory: Path, ranks: Ranks = ALONE) -> None:
    """Do two updates of ``RESUMED``, after each of which there is a checkpoint."""
    this, learner = make(RESUMED, ranks)
    if ranks.rank:
        learner.align()
        for _ in range(2):
            learner.step(None)
        return

    def stop(progress):
        if progress.step == 2:
            raise Interrupted

    with suppress(Interrupted):
        this.execute(stop, directory)


def resumed(directory: Path | None, ranks: Ranks = ALONE) -> np.ndarray:
    """Go on to the end of ``RESUMED``; return the weights."""
    this, learner = make(RESUMED, ranks)
    if ranks.rank == 0:
        this.execute(None, directory)
    else:
        follow(learner)
    return weights(learner)


class Rank:
    """A rank of groups of two and of three."""

    def __init__(self, rank: int, store: Path) -> None:
        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=max(SIZES),
            timeout=timedelta(seconds=60),
        )
        groups = {size: dist.new_group(range(size)) for size in SIZES}
        self._hasty = dist.new_group(range(2), timeout=timedelta(seconds=1))
        self._ranks = {
            size: ProcessGroup(group, group) for size, group in groups.items() if rank < size
        }

    def two_updates(self) -> Mapping[int, Mapping[str, tuple[np.ndarray, list]]]:
        return {size: two_updates(ranks) for size, ranks in self._ranks.items()}

    def interrupted(self, size: int, directory: Path) -> None:
        interrupted(directory, self._ranks[size])

    def resumed(self, size: int, directory: Path) -> np.ndarray:
        return resumed(directory, self._ranks[size])

    def waits_in_vain(self) -> str:
        """Add up with a rank that does not; return what is said of it after a second."""
        parameter = torch.zeros(1)
        parameter.grad = torch.ones(1)
        try:
            ProcessGroup(self._hasty, self._hasty).add_up([parameter])
        except RanksError as error:
            return str(error)
        return "added up"
