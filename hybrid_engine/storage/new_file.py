"""Makes a file that appears whole under its name, or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hybrid_engine.runtime.errors import ConfigError, StorageError

PREFIX = ".hybrid-engine-"  # of the directory beside the file in which it is made
_PARTS = ("-wal", "-shm", "-journal")


@contextmanager
def new_file(path: Path, database: Path) -> Iterator[Path]:
    """Another path, whose file gets the name `path` in the end: synced, with mode 0640.

    Whatever is raised meanwhile leaves nothing. Raises ConfigError where `path` cannot be made: it is there already, or
    SQLite would take it for a part of `database`; and StorageError where it cannot be written.
    """
    _refuse_path(path, database)
    # Named before it is made, so that an interrupt right behind that removes it as well.
    folder = path.parent / f"{PREFIX}{secrets.token_hex(8)}"
    try:
        try:
            folder.mkdir(0o700)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be created: {error.strerror}") from error
        draft = folder / "file"
        yield draft
        try:
            _publish(draft, path)
        except FileExistsError:
            raise _exists(path) from None
        except OSError as error:
            raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_path(path: Path, database: Path) -> None:
    file = database.resolve()
    if path.parent.resolve() / path.name in [Path(f"{file}{part}") for part in _PARTS]:
        raise ConfigError(f"{path}: SQLite would take it for a part of {database}; name another file")
    try:
        os.lstat(path)
    except FileNotFoundError:
        if not os.path.isdir(path.parent):
            raise ConfigError(f"{path}: the directory {path.parent} does not exist; create it first") from None
        return
    except OSError as error:
        raise ConfigError(f"{path}: cannot be created: {error.strerror}") from error
    with suppress(OSError):
        if os.path.samefile(path, database):
            raise ConfigError(f"{path} is the database itself; name another file")
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a directory; name a file in it")
    raise _exists(path)


def _exists(path: Path) -> ConfigError:
    return ConfigError(f"{path} is there already, and is not overwritten; name another file, or move that one away")


def _publish(draft: Path, path: Path) -> None:
    with suppress(PermissionError):  # a file system without modes, such as that of a USB stick
        os.chmod(draft, 0o640)
    _sync(draft)
    try:
        os.link(draft, path)  # not a rename, which would overwrite what somebody has made there meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise FileExistsError from None
        os.rename(draft, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
