"""What all commands share: one line for an error, and the exit status."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench.errors import RunsFailedError, UserError

Handler = Callable[[int, FrameType | None], None]

PACKAGES = Path(__file__).resolve().parents[1]  # where bench and reproductions are


class _Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM. For one of its base class Python may ignore the exit status."""


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

    An error is one line on standard error. Ctrl-C is status 130, SIGTERM 143.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        raise _Interrupted

    try:
        with _handled_by(interrupt):
            command()
    except (Exception, KeyboardInterrupt) as error:
        # A library that is interrupted may raise something else.
        if received or isinstance(error, KeyboardInterrupt):
            print(
                "stopped; what was finished is kept, the same command (without --fresh) goes on",
                file=sys.stderr,
            )
            return 128 + (received or [signal.SIGINT])[-1]
        if not isinstance(error, UserError | RunsFailedError):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


def end_at_once_when_interrupted() -> None:
    """Have Ctrl-C and SIGTERM end the suite's own commands in one line, outside ``run_command``.

    The libraries take seconds to import. An interruption in the meantime would be a traceback, or
    be swallowed by a library. Does nothing in other programs that import the suite.
    """
    if _is_own_command():
        signal.signal(signal.SIGINT, _end)
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    del frame
    os.write(2, b"stopped\n")
    os._exit(128 + number)


def _is_own_command() -> bool:
    """Say whether the main program is ``python -m bench.<name>`` or a script of a figure."""
    if sys.argv[0] == "-m":  # Python imports the package of a module before the module
        return sys.orig_argv[sys.orig_argv.index("-m") + 1].startswith("bench.")
    script = getattr(sys.modules["__main__"], "__file__", None)
    return script is not None and Path(script).resolve().parent == PACKAGES / "reproductions"


@contextmanager
def _handled_by(handler: Handler) -> Iterator[None]:
    """Have a handler get Ctrl-C and SIGTERM in the suite's own commands, not in who calls one."""
    own = signal.getsignal(signal.SIGTERM) is _end
    if not own or threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)
