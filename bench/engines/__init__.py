"""Generation engines by name. To add one, add its file and a line to ``ENGINES``.

An engine's class has what ``bench.sources.base.NamedEngine`` asks for, and ``Checksummed`` and
``InFlight`` if it can. This module imports neither torch nor any engine.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.sources.base import NamedEngine

ENGINES = {
    "hf": "bench.engines.hf:HfEngine",
    "vllm": "bench.engines.vllm:VllmEngine",
}  # name -> module:class


def engine_class(name: str) -> type[NamedEngine]:
    """Import and return the class of the engine ``name``.

    Raises:
        UserError: there is no engine of that name.
    """
    if name not in ENGINES:
        raise UserError(f"engine {name!r}: allowed are {', '.join(ENGINES)}")
    found: type[NamedEngine] = resolve_name(ENGINES[name])
    return found
