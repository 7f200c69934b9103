"""A machine whose driver names GPUs: ``nvidia-smi`` is a script."""

import os

from bench.processes import devices

GPUS = A, B, C, D, E, F, G, H = tuple(f"GPU-{letter * 8}-1111-2222-3333" for letter in "abcdefgh")


def listing(count: int) -> str:
    """Return what ``nvidia-smi -L`` prints."""
    lines = [f"GPU {i}: NVIDIA H100 80GB HBM3 (UUID: {name})" for i, name in enumerate(GPUS)]
    return "\n".join(lines[:count])


def install(directory, monkeypatch, text: str = "", script: str = "") -> None:
    """Have ``nvidia-smi`` print a text or do as a script says; no GPU is named by the user."""
    program = directory / "bin" / "nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\n" + (script or f"cat <<'END'\n{text}\nEND") + "\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    monkeypatch.setattr(devices, "DRIVER", directory / "no driver")
