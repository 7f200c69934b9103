"""Where batches come from. The loop's only seam: ``publish`` a snapshot, take ``next`` batch."""

from bench.sources.base import Engine, Source
from bench.sources.inline import InlineSource
from bench.sources.overlapped import OverlappedSource

__all__ = ["Engine", "InlineSource", "OverlappedSource", "Source"]
