"""The one error that is the user's to mend."""


class UserError(ValueError):
    """What the user asked for cannot be done; one line says what, where and what is allowed.

    A wrong flag, an impossible configuration, a damaged file and a full disk are all of this kind:
    a command prints the line and exits with status 2.
    """


class RunsFailedError(RuntimeError):
    """Runs failed although what was asked for is possible; one line. Exit status 1."""
