"""Opens regular files in directories that the engine can write to, and nothing that it may have put in their place.

Root that opens such a path by name would follow a link to any file of the host, and wait for the writer of a FIFO. The
same function as in plugins/module_utils/drift.py and in the flight recorder, each of which is one file; one table of
the tests holds them to the same answers.
"""

import ctypes
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proofs.errors import ProofError


class IrregularFile(ProofError, OSError):
    """Something else stands where a file belongs; the message says what, and where."""


def open_regular(path: Path | str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a regular file and return its descriptor. What is there is looked at first, and that is what is opened.

    In another user's directory a file has to be that user's, root's or ours, under one name only. With O_CREAT a file
    that is missing is made. Raises IrregularFile, and OSError as os.open() does.
    """
    above, name = os.path.split(path)
    folder = os.open(above or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            return os.open(name, flags | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
        try:
            if wrong := irregular(os.fstat(handle), os.fstat(folder).st_uid):
                raise IrregularFile(f"{path} {wrong}, and was not opened")
            return os.open(f"/proc/self/fd/{handle}", flags & ~os.O_CREAT | os.O_CLOEXEC)
        finally:
            os.close(handle)
    finally:
        os.close(folder)


def irregular(status: os.stat_result, folder_owner: int) -> str:
    """Why an entry of a directory is not to be opened as a file; empty where it is. status: of the entry itself."""
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    if not stat.S_ISREG(status.st_mode):
        return f"is {kinds.get(stat.S_IFMT(status.st_mode), 'a device')} where a file belongs"
    if folder_owner not in (0, os.geteuid()):
        if status.st_uid not in (0, os.geteuid(), folder_owner):
            return f"belongs to the user {status.st_uid} in a directory of {folder_owner}"
        if status.st_nlink > 1:
            return f"has {status.st_nlink} names in a directory of {folder_owner}"
    return ""


@contextmanager
def as_owner_of(folder: Path) -> Iterator[None]:
    """This thread alone opens files as the owner of a directory meanwhile (setfsuid(2)), if it is root's.

    For a library that opens by name: what the owner may not read is not read for it either. Raises IrregularFile.
    """
    status = os.stat(folder) if folder.exists() else None
    if os.geteuid() != 0 or status is None or status.st_uid == 0:
        yield  # there is nobody else, or nothing to open
        return
    libc = ctypes.CDLL(None)
    try:
        libc.setfsgid(status.st_gid)
        libc.setfsuid(status.st_uid)
        if libc.setfsuid(-1) != status.st_uid:  # it says what it was, and never that it failed
            raise IrregularFile(f"{folder}: its files cannot be opened as the user {status.st_uid}")
        yield
    finally:
        libc.setfsuid(0)
        libc.setfsgid(0)


def remove_tree(path: Path) -> None:
    """Remove a directory as far as that is possible, and what an engine put into it, however deep.

    shutil.rmtree calls itself and holds a descriptor for each level, and so gives up where they are some hundred.
    """
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(path)], check=False, capture_output=True)


def read_regular(path: Path | str, most: int = 1 << 28) -> bytes:
    """The contents of a regular file. Raises as open_regular, and IrregularFile for one of more than `most` bytes."""
    with os.fdopen(open_regular(path), "rb") as file:
        body = file.read(most + 1)
    if len(body) > most:
        raise IrregularFile(f"{path} has more than {most} bytes, and was not read")
    return body
