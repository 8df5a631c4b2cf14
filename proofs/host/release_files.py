"""The digest of a release by the files that lie on the disk, whatever the engine in it says of itself.

The layout is that of plugins/module_utils/release_layout.py. The gate of LIVE compares the same files with code of its
own (hybrid_engine/runtime/release.py): the proofs do not ask the program that they prove.
"""

import hashlib
import json
import marshal
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path

from proofs.errors import ProofError

_LISTS = ("release.json", "bytecode.json")
_HEADER = 16  # bytes of a .pyc before its code


class AlteredRelease(ProofError):
    """A file of the release is not what its digest is of; the message names the file."""


def digest(home: Path) -> str:
    """The digest that release.json in `home` names, once every file was compared with it, bytecode included.

    Raises AlteredRelease: a file differs, is missing, is no regular file, or was not built.
    """
    try:
        about = json.loads((home / _LISTS[0]).read_text())
        files: dict[str, str] = about["files"]
        content = hashlib.sha256("".join(f"{path}\0{files[path]}\n" for path in sorted(files)).encode()).hexdigest()
        if content != about["digest"] or home.name != about["name"] or not home.name.endswith(f"-{content[:12]}"):
            raise AlteredRelease(f"{home / _LISTS[0]} is not of the digest that it names")
        compiled = {cache_from_source(str(home / path)): home / path for path in files if path.endswith(".py")}
        found = set()
        for path in home.rglob("*"):
            name = str(path.relative_to(home))
            if (path.is_dir() and not path.is_symlink()) or name in _LISTS:
                continue
            found.add(name)
            body = b"" if path.is_symlink() or not path.is_file() else path.read_bytes()
            if str(path) in compiled:
                same = body[:4] == MAGIC_NUMBER and _is_compiled(body, compiled[str(path)])
            else:
                same = not path.is_symlink() and hashlib.sha256(body).hexdigest() == files.get(name)
            if not same:
                raise AlteredRelease(f"{path} is not as it was built")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SyntaxError, EOFError) as error:
        raise AlteredRelease(f"{home}: {type(error).__name__}: {error}") from None
    if missing := files.keys() - found:
        raise AlteredRelease(f"{home / min(missing)} is missing")
    return content


def _is_compiled(body: bytes, source: Path) -> bool:
    return bool(marshal.loads(body[_HEADER:]) == compile(source.read_bytes(), str(source), "exec", dont_inherit=True))
