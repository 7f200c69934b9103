"""Algorithms by name. Adding one means adding one file to this folder.

The file holds a frozen dataclass with a ``name``, a subclass of ``base.Algorithm`` or, where the
loss has a ratio, of ``ratio.RatioAlgorithm``. A variant that differs in its defaults is a subclass
with a name of its own. Nothing here imports torch until it computes.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from bench.algorithms import corrections
from bench.algorithms.base import Algorithm, construct
from bench.errors import UserError


def _named(cls: type[Algorithm]) -> Iterator[type[Algorithm]]:
    if "name" in vars(cls):
        yield cls
    for subclass in cls.__subclasses__():
        yield from _named(subclass)


def _registry() -> dict[str, type[Algorithm]]:
    """Return the algorithms of all files of this folder, in alphabetical order."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    found: dict[str, type[Algorithm]] = {}
    for cls in sorted(_named(Algorithm), key=lambda cls: cls.name):  # type: ignore[type-abstract]
        if cls.name in found:
            other = found[cls.name].__module__
            raise UserError(f"{cls.__module__}: algorithm {cls.name!r} is also in {other}")
        found[cls.name] = cls
    return found


ALGORITHMS = _registry()


def build(name: str, params: Mapping[str, Any] | None = None) -> Algorithm:
    """Return the algorithm ``name``, with ``params`` in place of its default hyper-parameters.

    A correction may be given as the plain JSON of its ``identity``.

    Raises:
        UserError: unknown name or hyper-parameter, or a value out of range; says what is allowed.
    """
    params = dict(params or {})
    if isinstance(correction := params.get("correction"), Mapping):
        params["correction"] = corrections.build(correction)
    return construct("algorithm", ALGORITHMS, name, params)
