"""Write what came from a host to the controller's disk: into a fresh directory, never over or through anything.

evidence/HOST/RUN appears whole or not at all. The evidence's own directory is the operator's and may be a link; below
it no link is followed.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from proofs.errors import ProofError
from proofs.evidence.host_input import BLOBS, check_host, check_run

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderError(ProofError):
    """It cannot be written where it should be; the message names the path and says why."""


class EvidenceFolder:
    """A run's directory while it is being written; it gets its name when all of it is there."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    def write(self, name: str, content: Iterator[bytes]) -> None:
        """A new file, NAME or blobs/NAME. Raises FolderError when there is one, OSError."""
        folder, _, base = name.rpartition("/")
        if folder not in ("", BLOBS) or base in ("", ".", ".."):
            raise FolderError(f"{self.path / name}: no place for a file of evidence")
        if folder:
            with suppress(FileExistsError):
                os.mkdir(BLOBS, 0o755, dir_fd=self._fd)
        with _opened(folder or ".", self._fd) as at, os.fdopen(os.open(base, _NEW, 0o644, dir_fd=at), "wb") as file:
            file.writelines(content)


@contextmanager
def fresh_folder(root: Path, host: str, run: str) -> Iterator[EvidenceFolder]:
    """Make root/host/run, which must not exist: written beside it and renamed at the end, gone where that fails.

    Raises FolderError: it exists, or root/host is a link; HostInputError: a name that is none.
    """
    path = root / check_host(host) / check_run(run)
    with _host_folder(root, host) as parent:
        draft = f".{run}.{secrets.token_hex(8)}"
        os.mkdir(draft, 0o755, dir_fd=parent)
        try:
            with _opened(draft, parent) as fd:
                yield EvidenceFolder(path, fd)
            if run in os.listdir(parent):
                raise FolderError(f"{path} exists already, and evidence is never overwritten")
            os.rename(draft, run, src_dir_fd=parent, dst_dir_fd=parent)  # over nothing but an empty directory
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True, dir_fd=parent)
            raise


def refuse_existing(root: Path, host: str, run: str) -> None:
    """Ask before anything is fetched what fresh_folder asks. Raises FolderError, HostInputError."""
    path = root / check_host(host) / check_run(run)
    if path.parent.is_symlink():
        raise FolderError(f"{path.parent} is a link, and evidence is not written through one")
    if os.path.lexists(path):
        raise FolderError(f"{path} exists already, and evidence is never overwritten")


def write_new_file(root: Path, host: str, name: str, content: bytes) -> Path:
    """Make the file root/host/name for its owner alone.

    Raises FolderError: it exists, root/host is a link, or it cannot be written; HostInputError: no name of a host.
    """
    path = root / check_host(host) / name
    if name in ("", ".", "..") or "/" in name:
        raise FolderError(f"{path}: no name of a file")
    with _host_folder(root, host) as parent:
        try:
            fd = os.open(name, _NEW, 0o600, dir_fd=parent)
        except FileExistsError:
            raise FolderError(f"{path} exists already, and is never overwritten") from None
        except OSError as error:
            raise FolderError(f"{path}: {error.strerror}") from None
        with os.fdopen(fd, "wb") as file:
            file.write(content)
    return path


@contextmanager
def _opened(folder: str | Path, parent: int | None = None, flags: int = _DIRECTORY) -> Iterator[int]:
    fd = os.open(folder, flags, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _host_folder(root: Path, host: str) -> Iterator[int]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _opened(root, flags=_DIRECTORY & ~os.O_NOFOLLOW) as top:
            with suppress(FileExistsError):
                os.mkdir(host, 0o755, dir_fd=top)
            fd = os.open(host, _DIRECTORY, dir_fd=top)
    except OSError as error:
        raise FolderError(f"{root / host} is no directory that can be used, or a link: {error.strerror}") from None
    try:
        yield fd
    finally:
        os.close(fd)
