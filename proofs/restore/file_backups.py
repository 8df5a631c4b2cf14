"""Backups of the operator's files that a fault edits in place; each is restored byte for byte.

Only a fault that has to be in /etc needs this, and only a lab may have one. Everything else that a proof writes lies
under /run; these backups have to outlive a power cut, so they lie in the run's evidence until they are not needed.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from proofs.evidence.atomic_file import sync_folder, write_atomically
from proofs.host.regular_file import IrregularFile, read_regular
from proofs.verdict import Json

FOLDER = "originals"
Originals = Mapping[str, Json]  # path -> {kept, sha256, mode, uid, gid, mtime_ns}; None where there was no file


def back_up(paths: Iterable[Path], folder: Path) -> dict[str, Json]:
    """Copy these files into the folder. The copies are on the disk when this returns. Raises IrregularFile."""
    folder.mkdir(mode=0o700, exist_ok=True)
    originals: dict[str, Json] = {}
    for path in paths:
        if not os.path.lexists(path):
            originals[str(path)] = None
            continue
        copy = folder / hashlib.sha256(str(path).encode()).hexdigest()[:16]
        write_atomically(copy, read_regular(path), 0o600)
        originals[str(path)] = {"kept": str(copy), **_identity(path), "mtime_ns": path.lstat().st_mtime_ns}
    sync_folder(folder.parent)
    return originals


def changed(originals: Originals) -> list[str]:
    """The paths whose content, mode or owner is not what it was."""
    return [name for name, original in originals.items() if _differs(Path(name), original)]


def put_back(originals: Originals) -> None:
    """Restore every file; harmless for one that is unchanged. All are on the disk when this returns."""
    for name, original in originals.items():
        path = Path(name)
        if original is None:
            path.unlink(missing_ok=True)
            if not path.parent.is_dir():  # nor was its directory there
                continue
        else:
            path.parent.mkdir(mode=0o755, exist_ok=True)
            if _differs(path, original):
                body = read_regular(original["kept"])
                write_atomically(path, body, original["mode"], (original["uid"], original["gid"]))
            os.utime(path, ns=(original["mtime_ns"], original["mtime_ns"]), follow_symlinks=False)
        sync_folder(path.parent)


def remove_backups(originals: Originals) -> None:
    """Remove the copies of files that are restored."""
    for folder in {Path(original["kept"]).parent for original in originals.values() if original is not None}:
        shutil.rmtree(folder, ignore_errors=True)


def _identity(path: Path) -> dict[str, Json]:
    """What makes a file the same as before. Raises OSError."""
    about, digest = path.lstat(), hashlib.sha256(read_regular(path)).hexdigest()
    return {"sha256": digest, "mode": about.st_mode & 0o7777, "uid": about.st_uid, "gid": about.st_gid}


def _differs(path: Path, original: Json) -> bool:
    if original is None:
        return os.path.lexists(path)
    try:
        return not _identity(path).items() <= original.items()
    except (FileNotFoundError, IrregularFile):
        return True
