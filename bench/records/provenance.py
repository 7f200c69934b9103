"""Provenance of a run: code revision, packages, hardware. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.paths import ROOT

CODE = ("bench", "plots", "reproductions")


def code_and_host() -> dict[str, Any]:
    """Return the provenance columns that the runs of a sweep share: all but time and device."""
    revision, dirty = git_state(ROOT)
    return {
        "git_revision": revision,
        "git_dirty": dirty,
        "python": platform.python_version(),
        **{name: package_version(name) for name in ("torch", "transformers", "trl")},
        "host_cpu": cpu_name(),
        "cores": os.cpu_count(),
        "constraints_hash": file_hash(ROOT / "constraints.txt"),
    }


def now_utc() -> str:
    """Return the current time, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def git_state(root: Path) -> tuple[str, bool]:
    """Return the revision checked out at ``root`` and whether the code differs from it.

    The code differs if a tracked file was changed, or if its folders have a new file. The result is
    ``unknown`` and True without git or a commit, or if ``root`` is within another repository.
    """
    top, revision = _git(root, "rev-parse", "--show-toplevel"), _git(root, "rev-parse", "HEAD")
    if top is None or revision is None or Path(top).resolve() != root.resolve():
        return "unknown", True
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    new = _git(root, "status", "--porcelain", "--untracked-files=normal", "--", *CODE)
    return revision, (changed, new) != ("", "")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def package_version(name: str) -> str | None:
    """Return the version of an installed package without importing it, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """Return the processor's model name if the system reports it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def file_hash(path: Path) -> str | None:
    """Return 12 hex digits of a file's SHA-256, or None if there is no such file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.exists() else None
