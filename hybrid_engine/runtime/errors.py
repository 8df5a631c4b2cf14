"""The exit codes, and the errors that become them.

Modules raise these; `cli.py` alone turns them into the process's exit status. The codes are an interface:
systemd restarts 10, 11, 13, 14 and 1, and leaves 12 down (`RestartPreventExitStatus=12`).
"""

from enum import IntEnum


class Exit(IntEnum):
    """What the process says to systemd and to the operator when it ends."""

    COMPLETE = 0
    BUG = 1
    NETWORK = 10
    PARSE = 11
    CONFIG = 12
    OVERLOAD = 13
    STORAGE = 14


class EngineError(Exception):
    """A foreseen end of the engine; `code` is its exit status, the text is one line for the operator."""

    code = Exit.BUG

    def __init__(self, text: str) -> None:
        # A key or a file name may hold line breaks.
        super().__init__(" ".join(text.splitlines()))


class ConfigError(EngineError):
    """The operator's mistake: retrying cannot help."""

    code = Exit.CONFIG


class NetworkError(EngineError):
    """No source could be used for `network_deadline_s`."""

    code = Exit.NETWORK


class ParseError(EngineError):
    """Every source answered, and none sent frames that decode, for `network_deadline_s`."""

    code = Exit.PARSE


class OverloadError(EngineError):
    """The house stayed full for `overload_after_s`."""

    code = Exit.OVERLOAD


class StorageError(EngineError):
    """The database could not be opened, verified or written for `storage_deadline_s`, or a stop had to end first."""

    code = Exit.STORAGE
