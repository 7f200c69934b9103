"""The world of the task, apart from it so that nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.tasks.worth.world import WorthWorld


@dataclass(frozen=True, kw_only=True)
class TldrWorthConfig(WorthWorld):
    """A world whose posts are summarised: "tl;dr:" stands after them, and comparisons are just."""

    name: ClassVar[str] = "tldr_worth"
    implementation: ClassVar[str] = "bench.tasks.tldr_worth.task:TldrWorth"
