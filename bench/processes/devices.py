"""The GPUs of this machine, and which process gets which. Imports no torch.

A process is given its GPUs by ``CUDA_VISIBLE_DEVICES`` in the environment it starts with. Within it
they are ``cuda:0``, ``cuda:1`` and so on. AMD's GPUs are not found.
"""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from bench.errors import UserError

Gpus = tuple[str, ...]  # by the names that CUDA_VISIBLE_DEVICES takes: UUIDs, or indices from 0

VISIBLE = "CUDA_VISIBLE_DEVICES"
NVIDIA_SMI_S = 30.0  # a driver that is not kept loaded takes seconds for each GPU
DRIVER = Path("/proc/driver/nvidia/gpus")


def inventory() -> Gpus:
    """Return the GPUs that this process may use; none where the driver names none.

    A GPU that is split into MIG devices counts as these. CUDA_VISIBLE_DEVICES chooses among them.
    """
    if (given := visible()) == ():
        return ()
    listed = re.findall(r"UUID:\s*((?:GPU|MIG)-[\w/-]+)", _listing())
    if given is None:
        is_split = [following.startswith("MIG-") for following in listed[1:]] + [False]
        return tuple(
            name
            for name, split in zip(listed, is_split, strict=False)
            if name.startswith("MIG-") or not split
        )

    def is_there(name: str) -> bool:
        return int(name) < len(listed) if name.isdecimal() else bool(listed)

    return tuple(dict.fromkeys(takewhile(is_there, given)))


def visible() -> Gpus | None:
    """Return what CUDA_VISIBLE_DEVICES names, as CUDA reads it; None: it is not set."""
    given = os.environ.get(VISIBLE)
    if given is None:
        return None
    is_name = re.compile(r"\d+|(GPU|MIG)-.+").fullmatch
    return tuple(takewhile(is_name, (name.strip() for name in given.split(","))))


def environment(gpus: Gpus) -> dict[str, str]:
    """Return the environment's part that gives a process these GPUs; none: those of its parent."""
    return {VISIBLE: ",".join(gpus)} if gpus else {}


def deal(gpus: Gpus, workers: int | None, each: int) -> list[Gpus]:
    """Deal GPUs out to workers: a share for each that there may be at a time.

    Args:
        gpus: of ``inventory``.
        workers: at most so many; None: as many as the GPUs allow or, without any, one per core.
        each: how many a worker gets; all, if there are fewer.

    Returns:
        Shares that have no GPU in common; empty ones where there is none.
    """
    if not gpus:
        return [()] * ((os.cpu_count() or 1) if workers is None else workers)
    each = min(each, len(gpus))
    found = [gpus[i : i + each] for i in range(0, len(gpus) - each + 1, each)]
    return found[:workers]


def require_shares(gpus: Gpus, workers: int, each: int) -> None:
    """Refuse more workers than the GPUs allow.

    Args:
        gpus: of ``inventory``; where there are none, any number is allowed.
        workers: asked for by ``--workers``.
        each: how many GPUs a run needs, if there are as many: one or two.

    Raises:
        UserError: there are too few GPUs.
    """
    most = len(deal(gpus, None, each))
    if gpus and workers > most:
        owner = "this machine has" if visible() is None else f"{VISIBLE} names"
        raise UserError(
            f"--workers {workers}: {owner} {len(gpus)} GPU{'s' if len(gpus) > 1 else ''}, and a "
            f"run needs {'one' if min(each, len(gpus)) == 1 else 'two'}; at most {most}"
        )


def memory_bytes(gpus: Gpus) -> dict[str, int]:
    """Return the memory of each GPU by its name, as far as the driver says; MIG devices have none.

    What the driver and other processes use of it is not known.

    Args:
        gpus: of ``inventory``.
    """
    asked = ["--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits"]
    rows = re.findall(r"^(GPU-[\w-]+), *(\d+)$", _nvidia_smi(*asked) or "", re.MULTILINE)
    found = {}
    for name in gpus:
        for index, (uuid, mebibytes) in enumerate(rows):
            if (int(name) == index) if name.isdecimal() else uuid.startswith(name):
                found[name] = int(mebibytes) * 2**20
    return found


def _listing() -> str:
    """Return what the driver says of its GPUs, in the order of the bus."""
    if (said := _nvidia_smi("-L")) is not None:
        return said
    files = sorted(DRIVER.glob("*/information"))  # not every container has the program
    with suppress(OSError):
        return "\n".join(file.read_text(errors="replace") for file in files)
    return ""


def _nvidia_smi(*arguments: str) -> str | None:
    """Return what the driver's program prints, or None if it cannot be run."""
    try:
        return subprocess.run(
            ["nvidia-smi", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=NVIDIA_SMI_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
