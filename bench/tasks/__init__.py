"""Tasks by name. Adding one means adding a file to this folder and a line to ``TASKS``."""

from __future__ import annotations

import pkgutil

from bench.errors import UserError
from bench.tasks.base import TaskConfig

# Where each task's configuration is. Imported on demand, since a task's libraries take
# seconds to import.
TASKS = {
    "arithmetic": "bench.tasks.arithmetic:ArithmeticConfig",
    "chat_worth": "bench.tasks.chat_worth.world:ChatWorthConfig",
    "gsm8k": "bench.tasks.gsm8k:Gsm8kConfig",
    "no_robots": "bench.tasks.no_robots:NoRobotsConfig",
    "tldr": "bench.tasks.tldr:TldrConfig",
    "tldr_tiny": "bench.tasks.tldr_tiny.world:TldrTinyConfig",
    "tldr_worth": "bench.tasks.tldr_worth.world:TldrWorthConfig",
}


def task_config(name: str) -> type[TaskConfig]:
    """Return the class of a task's configuration.

    Raises:
        UserError: no such task.
    """
    if name not in TASKS:
        raise UserError(f"task {name!r}: allowed are {', '.join(TASKS)}")
    found: type[TaskConfig] = pkgutil.resolve_name(TASKS[name])
    return found
