"""One learner over several processes, its ranks.

A loss sees all rows of a batch at once, whatever the micro-batches (``Learner._backward``). So
ranks are a dealing-out of micro-batches: each computes the outputs of its own and gets those of the
others, computes the same loss on all rows, and propagates its own share of the gradient. Then the
gradients are added up, and every rank takes the same optimiser step. No algorithm knows of ranks.

Rank 0 has the source, the evaluator, the records and the checkpoints. It tells the others what they
need: what to go on from, and each batch.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from bench.errors import RunsFailedError
from bench.learning.sequences import Sequences

Told = TypeVar("Told")
State = tuple[int, dict[str, Tensor]]  # policy version, and what ``Learner.restore`` needs

# Until rank 0 has something to tell: it may train the SFT and the reward model first. A rank that
# dies is noticed at once, by torchrun and by the end of its connections.
WORD_S = 14 * 24 * 3600.0
# What torchrun sets for a rank, and a process that a rank starts must not read.
VARIABLES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE",
    "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT",
    "TORCHELASTIC_USE_AGENT_STORE",
)  # fmt: skip


class RanksError(RunsFailedError):
    """Another rank has ended, or gave no answer in time."""


class Share:
    """The micro-batches that a rank does of M rows."""

    def __init__(self, ranks: Ranks, sequences: Sequences, parts: Sequence[Tensor]) -> None:
        """Deal out.

        Args:
            ranks: those that share.
            sequences: the M rows.
            parts: the positions of the rows of each micro-batch, of all ranks.
        """
        self.is_whole = len(parts) == 1  # one micro-batch has all rows
        self.rows = parts[ranks.rank :: ranks.size]
        self._ranks = ranks
        self._sequences = sequences

    @cached_property
    def parts(self) -> list[Sequences]:
        """This rank's micro-batches."""
        return [self._sequences.select(rows) for rows in self.rows]

    def outputs(self, forward: Callable[[Sequences], Tensor]) -> Tensor:
        """Return the outputs of a forward pass for the M rows, those of all ranks: [M, ...].

        The other ranks must do the same pass.
        """
        outputs = torch.cat([forward(part) for part in self.parts])
        return self._ranks.gather(outputs, torch.cat(list(self.rows)), len(self._sequences.tokens))


class Ranks:
    """The ranks of a learner that has one process."""

    rank = 0
    size = 1

    def share(self, sequences: Sequences, rows: Tensor, most: int | None) -> Share:
        """Return this rank's share of a minibatch; every rank has one.

        Micro-batches follow the order of the batch, prompt by prompt. So the completions of a
        prompt are together and share its forward pass.

        Args:
            sequences: M rows, at least as many as ranks.
            rows: their numbers in the batch, in the order in which the algorithm has them, [M].
            most: rows of a micro-batch; None: as many as possible.
        """
        size = min(most or len(rows), len(rows) // self.size)
        return Share(self, sequences, rows.argsort().split(size))

    def gather(self, outputs: Tensor, rows: Tensor, total: int) -> Tensor:
        """Return the outputs of all ranks in the order of the rows: [m, ...] -> [M, ...].

        Args:
            outputs: this rank's.
            rows: the positions of its rows, [m].
            total: M.
        """
        del total
        return outputs[rows.argsort()]

    def add_up(self, parameters: Sequence[Tensor]) -> None:
        """Give every rank the sum of all ranks' gradients."""

    def tell(self, word: Told | None) -> Told | None:
        """Return rank 0's word on every rank, tensors on the rank's own device.

        Args:
            word: on rank 0 anything that can be pickled; on the others it is ignored.
        """
        return word

    def tell_state(
        self, version: int, state: Mapping[str, Tensor]
    ) -> tuple[int, dict[str, Tensor]]:
        """Return rank 0's policy version and state on every rank."""
        return version, dict(state)


ALONE = Ranks()


class ProcessGroup(Ranks):
    """The ranks of a learner that ``torch.distributed`` connects."""

    def __init__(
        self,
        words: dist.ProcessGroup,
        sums: dist.ProcessGroup | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Join.

        Args:
            words: the group on the CPU by which rank 0 tells; its time limit is for the next word.
            sums: the group that adds up, with the limit of an update; None: the default group.
            device: of this rank's models.
        """
        self.rank, self.size = dist.get_rank(words), dist.get_world_size(words)
        self._words, self._sums, self._device = words, sums, device

    def gather(self, outputs: Tensor, rows: Tensor, total: int) -> Tensor:
        """See ``Ranks``: each row is one rank's, and 0 of the others, so the sum is exact."""
        gathered = outputs.new_zeros(total, *outputs.shape[1:])
        gathered[rows] = outputs
        with _noticed():
            dist.all_reduce(gathered, group=self._sums)
        return gathered

    def add_up(self, parameters: Sequence[Tensor]) -> None:
        """See ``Ranks``: a parameter has a gradient on all ranks or on none."""
        with _noticed():
            works = [
                dist.all_reduce(p.grad, group=self._sums, async_op=True)
                for p in parameters
                if p.grad is not None
            ]
            for work in works:
                work.wait()

    def tell(self, word: Told | None) -> Told | None:
        """See ``Ranks``."""
        return self._tell(word, self._device)

    def _tell(self, word: Told | None, device: torch.device | str) -> Told | None:
        data = torch.empty(0, dtype=torch.uint8)
        if self.rank == 0:
            buffer = io.BytesIO()
            torch.save(word, buffer)
            data = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
        length = torch.tensor([len(data)])
        with _noticed():
            dist.broadcast(length, group=self._words, group_src=0)
            data = data if self.rank == 0 else data.new_empty(int(length))
            dist.broadcast(data, group=self._words, group_src=0)
        if self.rank == 0:
            return word
        told = io.BytesIO(data.numpy().tobytes())
        found: Told | None = torch.load(told, map_location=device, weights_only=False)
        return found

    def tell_state(
        self, version: int, state: Mapping[str, Tensor]
    ) -> tuple[int, dict[str, Tensor]]:
        """See ``Ranks``: on the CPU, tensor by tensor, as they may not fit into memory twice."""
        version, names = self.tell((version, list(state))) or (version, [])
        told = {name: self._tell(state.get(name), "cpu") for name in names}
        return version, {name: tensor for name, tensor in told.items() if tensor is not None}


@contextmanager
def joined(timeout_s: float, device: str) -> Iterator[Ranks]:
    """Connect this process with the other ranks that torchrun started.

    Processes that it starts from then on do not take themselves for ranks.

    Args:
        timeout_s: for the ranks to start, and for each sum of an update.
        device: of this rank's models.

    Raises:
        RanksError: the others did not come in time.
    """
    if device != "cpu":
        torch.cuda.set_device(device)
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    with _noticed():
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
        words = dist.new_group(backend="gloo", timeout=timedelta(seconds=WORD_S))
    for name in VARIABLES:
        os.environ.pop(name, None)
    yield ProcessGroup(words, device=device)
    dist.destroy_process_group()  # not after an error: it would wait for the others


def processes() -> int:
    """Return how many ranks torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def _noticed() -> Iterator[None]:
    """Say in one line that another rank is gone."""
    try:
        yield
    except RuntimeError as error:  # of torch.distributed; which one depends on the backend
        raise RanksError("another rank has ended, or did not answer in time") from error
