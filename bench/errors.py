"""Errors that a command reports in one line."""


class UserError(ValueError):
    """An error that the user can fix. The message is one line: what, where, what is allowed.

    Examples are a wrong flag, an impossible configuration, a damaged file and a full disk. A
    command prints the line and exits with status 2.
    """


class RunsFailedError(RuntimeError):
    """Some runs failed, although the request was valid. One line; exit status 1."""
