"""What the lab's modules share: paths, the error class, running commands, waiting, locks and interruptions."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType

CACHE = Path(os.environ.get("HYBRID_LAB_CACHE", "/var/cache/hybrid-engine-lab"))
STATE = Path(os.environ.get("HYBRID_LAB_STATE", "/var/lib/hybrid-engine-lab"))
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DEADLINE_S = float(os.environ.get("HYBRID_LAB_DEADLINE_S", "90"))

# The Debian packages that the lab needs, each with its commands.
TOOLS = {
    "systemd-container": ("systemd-nspawn",),
    "debootstrap": ("debootstrap",),
    "openssh-client": ("ssh", "ssh-keygen"),
    "iproute2": ("ip",),
    "util-linux": ("unshare", "nsenter"),
    "mount": ("mount",),
}


class LabError(Exception):
    """An error that the operator can fix; its message is one line: what is wrong and what to do."""


class Interrupted(BaseException):
    """SIGTERM or SIGHUP arrived; unwinds like Ctrl-C, so that the same cleanup runs."""


def say(text: str) -> None:
    """Print one line of progress to stderr; stdout is for results.

    HYBRID_LAB_PROGRESS names a file to write it to as well, such as the terminal where Ansible holds stderr back.
    """
    print(f"lab: {text}", file=sys.stderr, flush=True)
    progress = os.environ.get("HYBRID_LAB_PROGRESS")
    if progress:
        with suppress(OSError), open(progress, "a") as terminal:
            terminal.write(f"lab: {text}\n")


def missing_packages() -> list[str]:
    """Debian packages of the commands that are missing on this machine."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return sorted(name for name, tools in TOOLS.items() if not all(shutil.which(tool, path=path) for tool in tools))


def require_linux_root() -> None:
    """Raise LabError on a machine that can never run a lab, with what to do instead."""
    instead = "use a real host instead (INVENTORY=inventory/nuc), or `make demo` for the engine alone"
    if sys.platform != "linux":
        raise LabError(f"a lab needs Linux, this is {sys.platform}: {instead}")
    if os.geteuid() != 0:
        raise LabError(f"a lab needs root: run it with sudo, or {instead}")


def require_machine() -> None:
    """Raise LabError on a machine that cannot run a lab as it is, with what to do."""
    require_linux_root()
    packages = missing_packages()
    if packages:
        install = f"apt-get install {' '.join(packages)}"
        raise LabError(f"commands missing: run `{install}` (on Debian and Ubuntu `make lab-up` does it)")
    for path in (CACHE, STATE):
        if not path.is_absolute() or re.search(r"[:,\\\s]", str(path)):
            raise LabError(f"{path}: must be an absolute path without colon, comma, backslash or space")


def run(argv: Sequence[str], timeout: float = 60) -> str:
    """Run a command and return its stdout. Raises LabError, with its last line, when it fails."""
    try:
        process = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(argv)}` did not end within {timeout:.0f} s") from None
    if process.returncode:
        last_line = (process.stderr.strip() or process.stdout.strip() or "no output").splitlines()[-1]
        raise LabError(f"`{' '.join(argv)}` failed with {process.returncode}: {last_line}")
    return process.stdout


def wait_until(what: str, ready: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Poll `ready` until it is true. Raises LabError, naming `what`, after the deadline."""
    end = time.monotonic() + deadline_s
    while not ready():
        if time.monotonic() > end:
            raise LabError(f"{what}: not within {deadline_s:.0f} s (HYBRID_LAB_DEADLINE_S raises it)")
        time.sleep(0.02)


def require_room(path: Path, megabytes: int, variable: str) -> None:
    """Raise LabError where a disk has too little free space."""
    free = shutil.disk_usage(path).free >> 20
    if free < megabytes:
        need = f"{free} MB free, {megabytes} MB needed"
        raise LabError(f"{path}: {need}: make room, or set {variable} to another directory")


def private_dir(path: Path) -> Path:
    """Create a directory that only root can enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@contextmanager
def locked(directory: Path, waiting: str) -> Iterator[None]:
    """Hold a lock on the directory itself, so that no lock file stays behind.

    Afterwards it is removed if it is empty, and so is its parent; a process that waited creates a new one.
    """
    while True:
        fd = -1
        try:
            with interrupted_after():  # a directory that is created here is also removed
                private_dir(directory)
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(waiting)
                fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_open_at(fd, directory):
                yield
                return
        except FileNotFoundError:
            if fd >= 0:
                raise
            # else another process removed it after it was created and before it was opened
        finally:
            if fd >= 0:
                _unlock(fd, directory)


def _unlock(fd: int, directory: Path) -> None:
    with uninterrupted(), suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where the lock was not acquired
        if _is_open_at(fd, directory):
            directory.rmdir()
            directory.parent.rmdir()
    os.close(fd)


def _is_open_at(fd: int, path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(fd), path.stat())


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number).name)


def interruptible() -> None:
    """Make SIGTERM and SIGHUP unwind the stack, as SIGINT does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    before = [signal.signal(number, handler) for number in INTERRUPTIONS]
    try:
        yield
    finally:
        for number, former in zip(INTERRUPTIONS, before, strict=True):
            signal.signal(number, former)


@contextmanager
def interrupted_after() -> Iterator[None]:
    """Delay a signal until the end of the block, then deliver it."""
    arrived: list[int] = []
    try:
        with _handled(lambda number, _frame: arrived.append(number)):
            yield
    finally:
        if arrived:
            signal.raise_signal(arrived[0])


@contextmanager
def deferred() -> Iterator[None]:
    """Delay a signal until the end of the block, then raise Interrupted: by then what was started can be found."""
    arrived: list[int] = []
    with _handled(lambda number, _frame: arrived.append(number)):
        yield
    if arrived:
        raise Interrupted(signal.Signals(arrived[0]).name)


def uninterrupted() -> AbstractContextManager[None]:
    """Ignore signals, so that a cleanup finishes although Ctrl-C is pressed again."""
    return _handled(signal.SIG_IGN)
