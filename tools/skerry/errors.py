"""The one family of errors: a code, a cause, a remedy, an exit code; shown without a traceback."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command (docs/cli.md lists them)."""

    OK = 0
    FAILED = 1  #: the work was done and something in it failed: a host, a check, a module
    USAGE = 2  #: bad input; nothing was changed
    PREREQUISITE = 3  #: this machine lacks something that the command needs
    UNREACHABLE = 4  #: hosts could not be reached or logged in to
    INTERRUPTED = 130  #: Ctrl-C; a second run carries on


class SkerryError(Exception):
    """Something a person can put right.

    Attributes:
        code: a stable name such as ``INVENTORY_003``; docs/errors.md is generated from them.
        cause: what is wrong, with the file, key or host.
        remedy: what to do next, a command where there is one.
        exit_code: how the process ends when nobody handles it.
    """

    def __init__(self, code: str, cause: str, remedy: str, exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(f"{code} {cause}")
        self.code = code
        self.cause = cause
        self.remedy = remedy
        self.exit_code = exit_code

    def as_dict(self) -> dict[str, str]:
        """The form that ``--json`` prints."""
        return {"code": self.code, "cause": self.cause, "remedy": self.remedy}
