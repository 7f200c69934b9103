"""Algorithms by name. Adding one means adding one file to this folder.

The file holds a frozen dataclass, a subclass of ``base.Algorithm`` with a ``name``. A variant that
differs in its defaults is a subclass with a name of its own.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any

from bench.algorithms.base import Algorithm
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

    Raises:
        UserError: unknown name or hyper-parameter, or a value out of range; says what is allowed.
    """
    params = params or {}
    if name not in ALGORITHMS:
        raise UserError(f"algorithm {name!r}: allowed are {', '.join(ALGORITHMS)}")
    cls = ALGORITHMS[name]
    allowed = [field.name for field in fields(cls)]
    if unknown := sorted(set(params) - set(allowed)):
        raise UserError(
            f"algorithm {name}: no parameter {', '.join(unknown)}; allowed are {', '.join(allowed)}"
        )
    return cls(**params)
