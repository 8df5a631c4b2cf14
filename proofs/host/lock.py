"""Lock files of a host, each with its holder's name in it: one proof at a time, one undo at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proofs.errors import ProofError


class Busy(ProofError):
    """Another proof holds the host; the message says which."""


@contextmanager
def locked(path: Path, owner: str, wait: bool) -> Iterator[None]:
    """Hold a lock file. The kernel lets go of it with the process, so a dead owner never blocks.

    Raises:
        Busy: somebody else holds it, and `wait` is not set.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another proof runs on this host: {holder(path)}") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, owner.encode(), 0)
        yield
    finally:
        os.close(fd)


def holder(path: Path) -> str:
    """Who holds a lock now and for how long, as "run R, pid N, for 12 s"; empty when nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return f"{path.read_text().strip()}, for {time.time() - path.stat().st_mtime:.0f} s"
    finally:
        os.close(fd)
    return ""
