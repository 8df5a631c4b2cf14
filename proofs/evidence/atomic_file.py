"""Replace a file so that a reader, and the disk after a power cut, has the old content or the new one, never a part."""

import os
import threading
from pathlib import Path


def write_atomically(
    path: Path, content: bytes, mode: int | None = None, owner: tuple[int, int] | None = None, concurrent: bool = False
) -> None:
    """Write a draft beside the file, fsync it, rename it over the file and fsync the folder.

    mode: permission bits; None: what the umask leaves of 0666. owner: uid and gid; None: those of this process.
    concurrent: several threads or processes may write this file at once, so each writes a draft of its own. Else the
    draft always has the same name, and what a writer left that was killed is overwritten by the next.
    """
    own = f"{os.getpid()}.{threading.get_ident()}." if concurrent else ""
    draft = path.with_name(f".{path.name}.{own}new")  # no name that systemd reads in a folder of drop-ins
    # A link under the draft's name is somebody's trick: OSError, and what it points to stays.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(draft, flags, 0o666 if mode is None else mode)
    with os.fdopen(fd, "wb") as file:
        if owner is not None:
            os.fchown(fd, *owner)
        if mode is not None:
            os.fchmod(fd, mode)
        file.write(content)
        file.flush()
        os.fsync(fd)
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """fsync a folder: names that were added to it or removed from it are on the disk when this returns."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
