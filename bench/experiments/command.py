"""What all commands share: flags, one line for an error, and the exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from bench.algorithms import ALGORITHMS
from bench.errors import RunsFailedError, UserError
from bench.experiments.presets import ORDER
from bench.tasks import TASKS


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ``UserError``."""

    def error(self, message: str) -> NoReturn:
        """Refuse a command line.

        Raises:
            UserError: always.
        """
        raise UserError(message)


def names(text: str) -> tuple[str, ...]:
    """Read algorithms with commas between them.

    Raises:
        argparse.ArgumentTypeError: one is not known.
    """
    found = tuple(text.split(","))
    for name in found:
        if name not in ALGORITHMS:
            raise argparse.ArgumentTypeError(f"{name!r}: allowed are {', '.join(ALGORITHMS)}")
    return found


# Flags that several commands take.
FLAGS: dict[str, dict[str, Any]] = {
    "--preset": {"default": "tiny", "help": f"{', '.join(ORDER)} (default: tiny)"},
    "--task": {"help": f"in place of the preset's own: {', '.join(TASKS)}"},
    "--workers": {
        "type": int,
        "default": os.cpu_count() or 1,
        "help": "processes at a time (default: one per core)",
    },
    "--out": {"type": Path, "help": "results directory (default: results/<preset>)"},
    "--hub-dir": {"type": Path, "help": "read <owner>/<name> from here, download nothing"},
}


def add_flags(parser: argparse.ArgumentParser, *flags: str) -> None:
    """Add some of ``FLAGS`` to a parser."""
    for flag in flags:
        parser.add_argument(flag, **FLAGS[flag])


def check_workers(workers: int) -> None:
    """Refuse a number of processes that is none.

    Raises:
        UserError: it is below 1.
    """
    if workers < 1:
        raise UserError(f"--workers {workers}: must be at least 1")


def run_command(command: Callable[[], None]) -> int:
    """Run a command and return its exit status: 0, 1 if runs failed, 2 for what the user can mend.

    An error is one line on standard error. Ctrl-C is status 130.
    """
    try:
        command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunsFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "stopped; what was finished is kept, the same command (without --fresh) goes on",
            file=sys.stderr,
        )
        return 130
    return 0
