"""The digest of a release by the files that lie on the disk, whatever the engine in it says of itself.

The layout is that of plugins/module_utils/release_layout.py. The gate of LIVE compares the same files with code of its
own (hybrid_engine/runtime/release.py): the proofs do not ask the program that they prove.
"""

import hashlib
import json
import marshal
import stat
from collections.abc import Mapping
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path

from proofs.errors import ProofError

_LISTS = ("release.json", "bytecode.json")
_HEADER = 16  # bytes of a .pyc before its code
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class AlteredRelease(ProofError):
    """A file of the release is not what its digest is of; the message names the file."""


def digest(home: Path) -> str:
    """The digest that release.json in `home` names, once every file was compared with it, bytecode included.

    Raises AlteredRelease: a file differs, is missing, is no regular file, was not built, or can be written by others.
    """
    try:
        about = json.loads((home / _LISTS[0]).read_text())
        files: dict[str, str] = about["files"]
        content = hashlib.sha256("".join(f"{path}\0{files[path]}\n" for path in sorted(files)).encode()).hexdigest()
        if content != about["digest"] or home.name != about["name"] or not home.name.endswith(f"-{content[:12]}"):
            raise AlteredRelease(f"{home / _LISTS[0]} is not of the digest that it names")
        compiled = {cache_from_source(str(home / path)): home / path for path in files if path.endswith(".py")}
        found = set()
        for path in (home, *home.rglob("*")):
            name, mode = str(path.relative_to(home)), path.lstat().st_mode
            if mode & _OTHERS_WRITE and not stat.S_ISLNK(mode):
                raise AlteredRelease(f"{path} can be written by others")
            if (path.is_dir() and not path.is_symlink()) or name in _LISTS:
                continue
            found.add(name)
            if not stat.S_ISREG(mode) or not _is_as_built(path, files.get(name), compiled):
                raise AlteredRelease(f"{path} is not as it was built")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SyntaxError, EOFError) as error:
        raise AlteredRelease(f"{home}: {type(error).__name__}: {error}") from None
    if missing := files.keys() - found:
        raise AlteredRelease(f"{home / min(missing)} is missing")
    return content


def _is_as_built(path: Path, sha256: str | None, compiled: Mapping[str, Path]) -> bool:
    body, source = path.read_bytes(), compiled.get(str(path))
    if source is None:
        return hashlib.sha256(body).hexdigest() == sha256
    return body[:4] == MAGIC_NUMBER and _is_compiled(body, source)


def _is_compiled(body: bytes, source: Path) -> bool:
    code = marshal.loads(body[_HEADER:])
    again = compile(source.read_bytes(), code.co_filename, "exec", dont_inherit=True)
    # As bytes without references: equal code objects may still differ in what Python runs (co_stacksize).
    return marshal.dumps(code, 2) == marshal.dumps(again, 2)
