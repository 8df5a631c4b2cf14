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

NAME = re.compile(r"[0-9][0-9A-Za-z.+!]*-[0-9a-f]{12}")


def canonical(value: Any) -> str:
    """The one way in which this project writes a JSON file, so that files can be compared byte for byte."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def current_name(root: str) -> str | None:
    """The release that <root>/current points to; None where there is no such link, or it leads elsewhere."""
    try:
        folder, name = os.path.split(os.readlink(os.path.join(root, "current")))
    except OSError:
        return None
    ours = folder in ("releases", os.path.join(root, "releases"))
    return name if ours and NAME.fullmatch(name) else None
