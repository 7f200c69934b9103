"""A connection to a Ray cluster, and what there is room for on it."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.hub import HUB_DIR
from bench.paths import ROOT

REACH_S = 5.0  # for a socket
ANSWER_S = 60.0  # for the cluster to say how it is, by a new process
# Ray would kill a worker's child at once, but not the children of the child. A child of ours sees
# that its parent is dead, cleans up and ends its whole process group.
OWN_CHILDREN = {"RAY_kill_child_processes_on_worker_exit": "0"}


@contextmanager
def connected(address: str, *, cpus: int | None = None) -> Iterator[None]:
    """Connect to a Ray cluster for the context; a cluster that was started for it ends with it.

    Raises:
        UserError: see ``connect``.
    """
    ours = connect(address, cpus=cpus)
    try:
        yield
    finally:
        if ours:
            import ray

            ray.shutdown()


def connect(address: str, *, cpus: int | None = None) -> bool:
    """Connect this process to a Ray cluster, unless it is connected; return whether it was not.

    The connection, and a cluster that was started for it, end with the process at the latest.

    Args:
        address: ``host:port`` of a cluster of which this machine is part; ``auto``: the one that
            was started on this machine or that RAY_ADDRESS names, else a new one, which listens on
            the network, protected by Ray's token.
        cpus: of a new cluster; None: as many as the machine has.

    Raises:
        UserError: Ray is not installed, or there is no such cluster.
    """
    if find_spec("ray") is None:
        raise UserError("Ray is not installed: install the extra [ray]")
    import ray

    if ray.is_initialized():
        return False
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    running = _found_here() if address == "auto" else address
    if running is None:
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
    else:
        _make_sure_it_answers(running, has_token=address == "auto")
        # By "auto" rather than by what it stands for: Ray shows its token to the cluster that it
        # finds by itself, to no address that it is given unless told to.
        options |= {"address": address}
    try:
        ray.init(**options)
    except Exception as error:  # of many types: another version, no permission, no space
        which = f"the Ray cluster at {running}" if running else "a new Ray cluster"
        raise UserError(f"cannot use {which}: {one_line(error)}") from error
    return True


def require_room(who: str, *, cpus: float, gpus: float) -> None:
    """Check that some machine of the cluster has as many CPUs and GPUs, whether free or not.

    Raises:
        UserError: none has.
    """
    machines = _machines()
    if not any(has_cpus >= cpus and has_gpus >= gpus for has_cpus, has_gpus in machines):
        there = "; ".join(f"{c:g} CPUs, {g:g} GPUs" for c, g in sorted(set(machines)))
        raise UserError(
            f"{who} asks for {cpus:g} CPUs and {gpus:g} GPUs, no machine of the Ray cluster has "
            f"as many (they have {there})"
        )


def slots(*, cpus: float, gpus: float) -> int:
    """Return how many workers with so many CPUs and GPUs each fit on the cluster at a time."""
    return sum(
        int(min(has_cpus / cpus, has_gpus / gpus if gpus else has_cpus / cpus))
        for has_cpus, has_gpus in _machines()
    )


def environment() -> dict[str, dict[str, str]]:
    """Return the runtime environment of actors.

    A machine that has the project in the same place as this one need not have it installed.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    models = {name: os.environ[name] for name in ("HF_HUB_OFFLINE", HUB_DIR) if name in os.environ}
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(paths), **OWN_CHILDREN, **models}}


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, without the colours that Ray gives it."""
    return " ".join(str(error).replace("\x1b[36m", "").replace("\x1b[39m", "").split())


def _machines() -> list[tuple[float, float]]:
    """Return the CPUs and GPUs of the machines that are up."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    return [(has.get("CPU", 0.0), has.get("GPU", 0.0)) for has in resources]


def _found_here() -> str | None:
    """Return the address of the cluster that this machine was made part of, if it is up."""
    temporary = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    file = Path(temporary) / "ray" / "ray_current_cluster"  # written by `ray start`
    if not file.exists():
        return None
    if file.stat().st_uid not in (0, os.getuid()):  # it would be shown Ray's token
        raise UserError(
            f"{file}: names a Ray cluster of another user; give its address, --ray HOST:PORT, or "
            "set RAY_TMPDIR to have one of your own"
        )
    address = file.read_text().strip()
    try:
        _reach(address)
    except UserError:  # it has ended
        return None
    return address


def _make_sure_it_answers(address: str, has_token: bool) -> None:
    """Ask in a process that can be killed: Ray itself waits minutes for what is no cluster."""
    _reach(address)
    with suppress(subprocess.TimeoutExpired):
        asked = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address],
            check=False,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
        )
        wants_token = "AuthenticationError" in asked.stderr  # `ray status` shows none unless told
        if wants_token and not has_token:
            raise UserError(
                f"the Ray cluster at {address} wants a token: set RAY_AUTH_MODE=token and give "
                "this machine the token of the cluster"
            )
        if asked.returncode == 0 or wants_token:
            return
    raise UserError(
        f"what listens at {address} does not answer as a Ray cluster of version "
        f"{_ray_version()}; `ray status --address {address}` says more"
    )


def _reach(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal()) or "/" in host:
        raise UserError(f"Ray address {address!r}: allowed are auto and HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster can be reached at {address}: {error}") from error


def _ray_version() -> str:
    import ray

    return ray.__version__
