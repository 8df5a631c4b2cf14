"""What a release looks like on disk, known to both sides: the controller that builds it, the host that keeps it.

<root>/releases/<version>-<digest12>/bin/<launcher>    0755
                                     lib/<packages>    0644
                                     release.json      name, version, digest, python, files: {path: sha256}
                                     bytecode.json     python, files: {path: sha256}: written by the host
<root>/current -> releases/<name>
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from ansible.module_utils.drift import MANIFEST, content_digest, file_sha256

NAME = re.compile(r"[0-9][0-9A-Za-z.+!]*-[0-9a-f]{12}")


def canonical(value: Any) -> str:
    """The one way in which this project writes a JSON file, so that files can be compared byte for byte."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def recomputed_digest(release: str) -> str:
    """Digest of a deployed tree, from its files' present contents (those its release.json lists).

    A missing or extra module changes it as surely as an altered one. Raises OSError, ValueError or KeyError
    where release.json or a file cannot be read.
    """
    with open(os.path.join(release, MANIFEST), encoding="utf-8") as stream:
        listed = json.load(stream)["files"]
    found = {path: file_sha256(os.path.join(release, path)) for path in listed}
    for folder, _, names in os.walk(os.path.join(release, "lib")):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), release)
            if "__pycache__" not in path.split(os.sep) and path not in found:
                found[path] = file_sha256(os.path.join(folder, name))
    return str(content_digest(found))


def current_name(root: str) -> str | None:
    """The release that <root>/current points to; None where there is no such link, or it leads elsewhere."""
    try:
        folder, name = os.path.split(os.readlink(os.path.join(root, "current")))
    except OSError:
        return None
    ours = folder in ("releases", os.path.join(root, "releases"))
    return name if ours and NAME.fullmatch(name) else None
