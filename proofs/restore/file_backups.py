"""What an operator's file was before a fault changed it in its place, kept on the disk and put back byte for byte.

Only a fault that has to be in /etc needs this, and only a lab may have one. The copies outlive a power cut, so unlike
everything else that a proof writes they lie in the run's evidence until they are no longer needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from proofs.verdict import Json

FOLDER = "originals"
Originals = Mapping[str, Json]  # path -> {kept, sha256, mode, uid, gid, mtime_ns}; None where there was no file


def keep(paths: Iterable[Path], folder: Path) -> dict[str, Json]:
    """Copy these files into the folder. On the disk when this returns."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found: dict[str, Json] = {}
    for path in paths:
        if not os.path.lexists(path):
            found[str(path)] = None
            continue
        body, about = path.read_bytes(), path.lstat()
        kept = folder / hashlib.sha256(str(path).encode()).hexdigest()[:16]
        _write(kept, body, 0o600)
        found[str(path)] = {
            "kept": str(kept), "sha256": hashlib.sha256(body).hexdigest(), "mode": about.st_mode & 0o7777,
            "uid": about.st_uid, "gid": about.st_gid, "mtime_ns": about.st_mtime_ns,
        }  # fmt: skip
    _sync(folder)
    _sync(folder.parent)
    return found


def changed(originals: Originals) -> list[str]:
    """The paths at which something else is now than there was."""
    return [name for name, was in originals.items() if _differs(Path(name), was)]


def put_back(originals: Originals) -> None:
    """Make each what it was; harmless when it is that already. On the disk when this returns."""
    for name, was in originals.items():
        path = Path(name)
        if was is None:
            path.unlink(missing_ok=True)
        else:
            if _differs(path, was):
                draft = path.with_name(f".{path.name}.original")  # no name that systemd reads
                _write(draft, Path(was["kept"]).read_bytes(), was["mode"])
                os.chown(draft, was["uid"], was["gid"])
                draft.replace(path)
            os.utime(path, ns=(was["mtime_ns"], was["mtime_ns"]))
        _sync(path.parent)


def forget(originals: Originals) -> None:
    """Remove the copies: everything is what it was."""
    for folder in {Path(was["kept"]).parent for was in originals.values() if was is not None}:
        shutil.rmtree(folder, ignore_errors=True)


def _differs(path: Path, was: Json) -> bool:
    try:
        about, body = path.lstat(), path.read_bytes()
    except FileNotFoundError:
        return was is not None
    found = (hashlib.sha256(body).hexdigest(), about.st_mode & 0o7777, about.st_uid, about.st_gid)
    return was is None or found != (was["sha256"], was["mode"], was["uid"], was["gid"])


def _write(path: Path, body: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(body)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
