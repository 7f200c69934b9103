"""Which GPUs are there, by a driver that is a script, and which process sees which."""

from collections import Counter
from functools import partial

import pytest
import torch

from bench.errors import UserError
from bench.processes import devices
from bench.processes.devices import deal, inventory, require_shares
from bench.processes.local import LocalWorker
from bench.processes.pool import run_jobs

from .. import fake_driver
from ..fake_driver import GPUS, A, B, C, D, E, F, G, H
from . import pool_jobs
from .counter import Counter as Hosted

WAIT_S = 60.0
M, N = "MIG-12345678-aaaa-bbbb-cccc-dddddddddddd", "MIG-GPU-87654321-aaaa-bbbb-cccc-dd/5/0"
SPLIT = f"""GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})
  MIG 3g.20gb     Device  0: (UUID: {M})
  MIG 3g.20gb     Device  1: (UUID: {N})
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {B})"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Return a function that has ``nvidia-smi`` print a text, or do as a script says."""
    return partial(fake_driver.install, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        (fake_driver.listing(4), (A, B, C, D)),
        (SPLIT, (M, N, B)),  # of a GPU that is split the parts are used
        ("No devices were found", ()),
    ],
)
def test_all_gpus_are_found_by_the_names_that_cuda_takes(driver, listing, expected):
    driver(listing)
    assert inventory() == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2,0", ("2", "0")),
        (f" {C} , {A} ", (C, A)),
        ("GPU-bbbb", ("GPU-bbbb",)),  # shortened
        (f"{M},{N}", (M, N)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("1,-1,0", ("1",)),  # CUDA stops at the first that is none
        ("1,4,0", ("1",)),  # there is no fifth
        ("1,0,1", ("1", "0")),
    ],
)
def test_those_that_the_user_names_are_used_and_no_others(driver, monkeypatch, given, expected):
    driver(fake_driver.listing(4))
    monkeypatch.setenv(devices.VISIBLE, given)
    assert inventory() == expected


@pytest.mark.parametrize(
    "script",
    [
        "echo 'NVIDIA-SMI has failed: it could not communicate with the driver'; exit 9",
        "exec sleep 60",
    ],
)
def test_a_driver_that_fails_or_hangs_has_no_gpu(driver, monkeypatch, script):
    driver(script=script)
    monkeypatch.setattr(devices, "NVIDIA_SMI_S", 0.5)
    assert inventory() == ()
    monkeypatch.setenv(devices.VISIBLE, "0,1")
    assert inventory() == ()


def test_without_the_program_the_kernel_is_asked(tmp_path, monkeypatch):
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "gpus")
    assert inventory() == ()
    for name, bus in ((B, "0000:81:00.0"), (A, "0000:07:00.0")):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
        text = f"Model: \t\t NVIDIA H100\nIRQ:   \t\t 55\nGPU UUID: \t {name}\n"
        (tmp_path / "gpus" / bus / "information").write_text(text)
    assert inventory() == (A, B)


@pytest.mark.parametrize(
    ("gpus", "each", "shares"),
    [
        (0, 1, [()] * 3),
        (0, 2, [()] * 3),
        (1, 1, [(A,)]),
        (1, 2, [(A,)]),
        (2, 1, [(A,), (B,)]),
        (2, 2, [(A, B)]),
        (3, 2, [(A, B)]),
        (4, 1, [(A,), (B,), (C,), (D,)]),
        (4, 2, [(A, B), (C, D)]),
        (8, 1, [(A,), (B,), (C,), (D,), (E,), (F,), (G,), (H,)]),
        (8, 2, [(A, B), (C, D), (E, F), (G, H)]),
    ],
)
def test_by_default_there_are_as_many_workers_as_gpus_allow(monkeypatch, gpus, each, shares):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert deal(GPUS[:gpus], None, each) == shares
    assert deal(GPUS[:gpus], 1, each) == shares[:1]
    assert len(deal(GPUS[:gpus], 64, each)) == (len(shares) if gpus else 64)


@pytest.mark.parametrize(
    ("gpus", "given", "workers", "each", "message"),
    [
        (4, None, 8, 1, "this machine has 4 GPUs, and a run needs one; at most 4"),
        (4, None, 3, 2, "this machine has 4 GPUs, and a run needs two; at most 2"),
        (1, None, 2, 2, "this machine has 1 GPU, and a run needs one; at most 1"),
        (2, "1,3", 3, 1, "CUDA_VISIBLE_DEVICES names 2 GPUs, and a run needs one; at most 2"),
    ],
)
def test_more_workers_than_gpus_allow_are_refused(monkeypatch, gpus, given, workers, each, message):
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    if given is not None:
        monkeypatch.setenv(devices.VISIBLE, given)
    with pytest.raises(UserError) as raised:
        require_shares(GPUS[:gpus], workers, each)
    assert str(raised.value) == f"--workers {workers}: {message}"
    require_shares(GPUS[:gpus], int(message.rpartition(" ")[2]), each)
    require_shares((), 1024, each)


@pytest.mark.parametrize(
    ("parents", "gpus", "seen"),
    [("0,1,2", (A, B), f"{A},{B}"), (None, ("3",), "3"), ("0,1", (), "0,1"), (None, (), None)],
)
def test_a_process_sees_the_gpus_that_it_is_given(monkeypatch, parents, gpus, seen):
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    if parents is not None:
        monkeypatch.setenv(devices.VISIBLE, parents)
    worker = LocalWorker(Hosted, gpus=gpus)
    try:
        assert worker.submit("gpus").result(WAIT_S) == seen
    finally:
        worker.close()


@pytest.mark.parametrize("each", [1, 2])
def test_no_two_jobs_at_a_time_have_a_gpu_in_common(tmp_path, each):
    shares = deal((A, B, C, D), None, each)
    execute = partial(pool_jobs.hold_gpus, tmp_path)
    jobs = [pool_jobs.job("kill" if i == 3 else "", str(i)) for i in range(12)]
    seen, running, most = {}, set(), 0
    for event in run_jobs(jobs, execute, workers=shares, log_dir=tmp_path / "logs"):
        running = running | {event.index} if event.kind == "started" else running
        most = max(most, len(running))
        if event.kind == "finished":
            seen[event.index] = event.result
        if event.kind in ("finished", "retried"):
            running.remove(event.index)
    assert sorted(seen) == list(range(12))
    # each job held a lock on each of its GPUs: it would have failed on one already locked
    assert most == len(shares)
    by_worker = dict(seen.values())
    assert set(seen.values()) == set(by_worker.items())  # a worker keeps its GPUs
    assert set(by_worker.values()) == {",".join(share) for share in shares}
    # the one that was killed was replaced, by one with its GPUs
    assert len(by_worker) in (len(shares), len(shares) + 1)
    assert max(Counter(by_worker.values()).values()) <= 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_gpu_is_the_one_that_was_named():
    found = inventory()
    assert len(found) >= torch.cuda.device_count() > 0
    worker = LocalWorker(Hosted, gpus=found[-1:])
    try:
        uuids = worker.submit("cuda_uuids").result(WAIT_S)
    finally:
        worker.close()
    assert len(uuids) == 1
    if found[-1].startswith("GPU-"):
        assert found[-1] == f"GPU-{uuids[0]}"


def test_memory_is_by_the_names_that_gpus_are_used_by(driver):
    rows = "\n".join(f"{name}, {mib}" for name, mib in ((A, 81559), (B, 40960), (C, "[N/A]")))
    driver(rows)
    mib = 2**20
    assert devices.memory_bytes((A, B, C)) == {A: 81559 * mib, B: 40960 * mib}
    assert devices.memory_bytes(("1", "0")) == {"1": 40960 * mib, "0": 81559 * mib}
    assert devices.memory_bytes((B[:10], M)) == {B[:10]: 40960 * mib}  # shortened; a MIG device


def test_without_a_driver_no_memory_is_known(driver):
    driver(script="exit 1")
    assert devices.memory_bytes((A,)) == {}
