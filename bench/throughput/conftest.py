"""Hooks of the throughput benchmarks: machine info, the Parquet table, the summary."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench import paths
from bench.records import provenance
from bench.throughput import table
from bench.throughput.measure import Meter
from bench.throughput.workload import PRESET

torch.set_num_threads(1)

OUT = os.environ.get("ASYNC_RLHF_BENCH_OUT")
DIRECTORY = Path(OUT) if OUT else paths.results_dir(PRESET) / paths.THROUGHPUT
STARTED_UTC = provenance.now_utc()
ROWS: list[dict[str, Any]] = []
WRITTEN: list[Path] = []


@pytest.fixture
def measure(benchmark: BenchmarkFixture) -> Meter:
    """Return the meter of one benchmark."""
    return Meter(benchmark, ROWS)


def machine() -> dict[str, Any]:
    """Return code, packages and hardware, as every row carries them."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {**provenance.code_and_host(), "threads": torch.get_num_threads(), "device": device}


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Add code, packages and threads to pytest-benchmark's own report."""
    machine_info.update(machine())


def pytest_sessionfinish() -> None:
    """Write the session's file, if any benchmark ran."""
    if ROWS:
        WRITTEN.append(table.write(DIRECTORY, ROWS, {**machine(), "started_utc": STARTED_UTC}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print rates and ratios. A missed target is information, not a failure."""
    if not ROWS:
        return
    info = machine()
    terminalreporter.section("throughput")
    terminalreporter.write_line(
        f"{info['host_cpu']}, {info['threads']} of {info['cores']} cores, torch {info['torch']}, "
        f"transformers {info['transformers']}, trl {info['trl']}; rates by the median round"
    )
    for line in table.summary(ROWS):
        terminalreporter.write_line(line)
    for path in WRITTEN:
        terminalreporter.write_line(f"table: {path}")
