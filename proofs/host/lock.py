"""Lock files of a host, each with its holder's name in it: one proof at a time, one undo at a time."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proofs.errors import ProofError


class Busy(ProofError):
    """Another proof holds the host; the message says which."""


@contextmanager
def locked(path: Path, owner: str, wait: bool) -> Iterator[None]:
    """Hold a lock file, which the kernel frees with the process. Raises Busy: another holds it; not if `wait`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another proof runs on this host: {holder(path)}") from None
        file.truncate(0)
        file.write(owner)
        file.flush()
        yield


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
