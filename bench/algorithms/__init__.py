"""Algorithms by name. Adding one means adding one file to this folder.

The file holds one frozen dataclass (the protocol is in ``base.py``) and a literal mapping
``VARIANTS``: each name the algorithm runs under, with the hyper-parameters in which that variant
differs from the class's defaults. Nothing here imports torch until an algorithm is built.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.algorithms.base import Algorithm


def available() -> tuple[str, ...]:
    """Return the names that ``build`` knows, in alphabetical order."""
    return tuple(sorted(_variants()))


def build(name: str, params: Mapping[str, Any] | None = None) -> Algorithm:
    """Return the algorithm ``name``, with ``params`` in place of its variant's hyper-parameters.

    Raises:
        UserError: unknown name or hyper-parameter, or a value out of range; says what is allowed.
    """
    params = params or {}
    variants = _variants()
    if name not in variants:
        raise UserError(f"algorithm {name!r}: allowed are {', '.join(available())}")
    module_name, differences = variants[name]
    module = import_module(f"{__name__}.{module_name}")
    (cls,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and is_dataclass(value) and value.__module__ == module.__name__
    )
    allowed = [field.name for field in fields(cls)]
    if unknown := sorted(set(params) - set(allowed)):
        raise UserError(
            f"algorithm {name}: no parameter {', '.join(unknown)}; allowed are {', '.join(allowed)}"
        )
    try:
        return cast("Algorithm", cls(**{**differences, **params}))
    except UserError as error:
        raise UserError(f"algorithm {name}: {error}") from error


@cache
def _variants() -> dict[str, tuple[str, dict[str, Any]]]:
    """Read each file's ``VARIANTS`` without running it: name -> (module, differing parameters)."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match node:
                case (
                    ast.AnnAssign(target=ast.Name(id="VARIANTS"), value=ast.expr() as value)
                    | ast.Assign(targets=[ast.Name(id="VARIANTS")], value=value)
                ):
                    for name, differences in ast.literal_eval(value).items():
                        if name in found:
                            raise UserError(f"{path}: algorithm {name!r} is in {found[name][0]}")
                        found[name] = (path.stem, differences)
    return found
