"""What all commands share: one line for an error, and the exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from bench.errors import RunsFailedError, UserError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ``UserError``."""

    def error(self, message: str) -> NoReturn:
        """Report a wrong command line.

        Raises:
            UserError: always.
        """
        raise UserError(message)


def run_command(command: Callable[[], None]) -> int:
    """Run a command and return its exit status: 0, 1 if runs failed, 2 for a ``UserError``.

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
