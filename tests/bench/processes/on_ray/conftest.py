"""One Ray cluster of two machines with a CPU each, played by this one, for all tests here."""

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = [] if find_spec("ray") else ["test_*.py"]  # an extra


@pytest.fixture(scope="session")
def ray_directory():
    # Short, for the names of sockets; of its own, so that no other cluster is found in it.
    directory = tempfile.mkdtemp(prefix="ray-")
    saved = os.environ.get("RAY_TMPDIR")
    os.environ["RAY_TMPDIR"] = directory
    yield Path(directory)
    os.environ.pop("RAY_TMPDIR") if saved is None else os.environ.update(RAY_TMPDIR=saved)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """Return the checkpoints of preset ``smoke``."""
    from bench.experiments.presets import preset
    from bench.stages import resolve

    return resolve(preset("smoke").stage(), 0, cache_dir=tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def cluster(ray_directory):  # noqa: ARG001
    """Return the address of the cluster; this process is connected to it."""
    from ray.cluster_utils import Cluster

    from bench.processes.on_ray import connection

    machine = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    machines = Cluster(initialize_head=True, head_node_args=machine)
    machines.add_node(**machine)
    with connection.connected(machines.address):
        yield machines.address
    machines.shutdown()
