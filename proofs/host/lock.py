"""Lock files of a host, each with its holder's name in it: one proof at a time, one undo at a time.

Only root can open them: whoever can open a file can lock it, and so hold up whoever waits for it.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from proofs.errors import ProofError

_RETRY_S = 0.05


class Busy(ProofError):
    """Another proof holds the host; the message says which."""


@contextmanager
def locked(path: Path, owner: str) -> Iterator[None]:
    """Hold a lock file, which the kernel frees with the process. Raises Busy: another holds it."""
    with _open(path) as file:
        if not _lock(file, 0.0):
            raise Busy(f"another proof runs on this host: {holder(path)}")
        _sign(file, owner)
        yield


@contextmanager
def locked_within(path: Path, owner: str, seconds: float) -> Iterator[bool]:
    """Hold a lock file as soon as it is free; after so many seconds go on without, which yields False."""
    with _open(path) as file:
        if held := _lock(file, seconds):
            _sign(file, owner)
        yield held


def holder(path: Path) -> str:
    """Who holds a lock now and for how long, as "run R, pid N, for 12 s"; empty when nobody does."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return ""
    except BlockingIOError:
        return f"{path.read_text().strip()}, for {time.time() - path.stat().st_mtime:.0f} s"
    return ""


def _open(path: Path) -> TextIOWrapper:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Busy(f"{path} is no file: remove it")
    os.fchmod(fd, 0o600)  # one of an earlier release may be open to others
    return os.fdopen(fd, "a")


def _lock(file: TextIOWrapper, seconds: float) -> bool:
    """Whether the lock is held; it is tried for so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_RETRY_S)
        else:
            return True


def _sign(file: TextIOWrapper, owner: str) -> None:
    file.truncate(0)
    file.write(owner)
    file.flush()
