"""The exit codes, and the errors that become them.

Modules raise these errors; `cli.py` alone turns them into the exit code of the process. The codes are an interface:
systemd restarts the engine after 10, 11, 13, 14 and 1, and leaves it down after 12 (`RestartPreventExitStatus=12`).
"""

from enum import IntEnum

from hybrid_engine.runtime.address import hide_addresses


class ExitCode(IntEnum):
    """The exit code of the process; `meaning` is its line in `hybrid-engine --help`."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    COMPLETE = 0, "asked to stop, or --seconds elapsed; everything admitted is stored"
    NETWORK = 10, "no source could be used for engine.network_deadline_s"
    PARSE = 11, "every source kept sending frames that do not decode"
    CONFIG = 12, "the configuration or the command line is wrong; systemd leaves the unit down"
    OVERLOAD = 13, "the tick buffer stayed full, or the database locked, for engine.overload_after_s"
    STORAGE = 14, "the database cannot be opened, verified or written"
    BUG = 1, "anything else, with a traceback in the journal"


class EngineError(Exception):
    """An expected way for the engine to end; `code` is the exit code, the text is one line for the operator."""

    code = ExitCode.BUG

    def __init_subclass__(cls, code: ExitCode) -> None:
        cls.code = code

    def __init__(self, text: str) -> None:
        # A key or a file name may contain line breaks, and an address a password.
        super().__init__(hide_addresses(" ".join(text.splitlines())))


class ConfigError(EngineError, code=ExitCode.CONFIG):
    """The operator made a mistake: retrying cannot help."""


class NetworkError(EngineError, code=ExitCode.NETWORK):
    """No source could be used for `network_deadline_s`."""


class ParseError(EngineError, code=ExitCode.PARSE):
    """Every source answered, and none sent frames that decode, for `network_deadline_s`."""


class OverloadError(EngineError, code=ExitCode.OVERLOAD):
    """For `overload_after_s` every second had a dropped tick, or commits were blocked by a lock."""


class StorageError(EngineError, code=ExitCode.STORAGE):
    """The database could not be opened, verified or written in time: `storage_deadline_s`, or the end of a stop."""
