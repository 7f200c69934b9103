"""Tasks by name: every module of this folder that has a ``build(params) -> Task`` is one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

from bench.errors import UserError
from bench.tasks.base import Task


def task_names() -> list[str]:
    """Return the names ``build_task`` takes."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def task_module(name: str) -> ModuleType:
    """Return the module of the task ``name``.

    Raises:
        UserError: no such task.
    """
    if name not in task_names():
        raise UserError(f"task {name!r}: allowed are {', '.join(task_names())}")
    return importlib.import_module(f"{__name__}.{name}")


def build_task(name: str, params: Mapping[str, Any]) -> Task:
    """Build the task ``name`` from its parameters.

    Raises:
        UserError: no such task, or the task refuses its parameters.
    """
    return cast("Task", task_module(name).build(params))
