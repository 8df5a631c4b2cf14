"""The release that this process runs, from `release.json` beside `lib/`, which the release build writes."""

import hashlib
import json
import marshal
import os
import stat
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_engine import __version__

UNRELEASED = "unreleased"
_MANIFEST = "release.json"
_BYTECODE = "bytecode.json"  # what the host compiled; the code itself is compared, so that file is not read
_HEADER = 16  # bytes of a .pyc before its code
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Release(NamedTuple):
    version: str
    name: str
    digest: str


def release_home() -> Path:
    return Path(__file__).resolve().parents[3]


def read_release() -> Release:
    """The release that this file is part of; in a checkout its name and digest are "unreleased"."""
    try:
        about = json.loads((release_home() / _MANIFEST).read_text())
        return Release(__version__, str(about["name"]), str(about["digest"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Release(__version__, UNRELEASED, UNRELEASED)


def release_difference(home: Path) -> str:
    """How the files in `home` differ from what the digest in release.json is of; empty when they do not.

    Python runs the .pyc beside a source without another look at the source, so each is compared with its source
    compiled anew. Anything that is not listed, is no regular file, or can be written by others, is a difference too.
    """
    try:
        about = json.loads((home / _MANIFEST).read_text())
        files: dict[str, str] = about["files"]
        content = hashlib.sha256("".join(f"{path}\0{files[path]}\n" for path in sorted(files)).encode()).hexdigest()
        if content != about["digest"] or home.name != about["name"] or not home.name.endswith(f"-{content[:12]}"):
            return f"{_MANIFEST} is not of the digest that it names"
        sources = [path for path in files if path.endswith(".py")]
        compiled = {os.path.relpath(cache_from_source(str(home / path)), home): path for path in sources}
        left = set(files)
        for folder, folders, names in os.walk(home):
            if os.stat(folder).st_mode & _OTHERS_WRITE:
                return f"{os.path.relpath(folder, home)} can be written by others"
            for name in [*names, *(name for name in folders if os.path.islink(os.path.join(folder, name)))]:
                path = os.path.relpath(os.path.join(folder, name), home)
                left.discard(path)
                if not _as_built(home, path, files, compiled):
                    return f"{path} is not as it was built"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SyntaxError, EOFError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{min(left)} is missing" if left else ""


def _as_built(home: Path, path: str, files: dict[str, str], compiled: dict[str, str]) -> bool:
    status = os.lstat(home / path)
    if not stat.S_ISREG(status.st_mode) or status.st_mode & _OTHERS_WRITE:
        return False
    if path in (_MANIFEST, _BYTECODE):
        return True
    body = (home / path).read_bytes()
    if path in files:
        return hashlib.sha256(body).hexdigest() == files[path]
    source = compiled.get(path)
    if source is None or body[:4] != MAGIC_NUMBER:
        return False
    code: Any = marshal.loads(body[_HEADER:])
    again = compile((home / source).read_bytes(), code.co_filename, "exec", dont_inherit=True)
    # As bytes without references: equal code objects may still differ in what Python runs (co_stacksize).
    return marshal.dumps(code, 2) == marshal.dumps(again, 2)
