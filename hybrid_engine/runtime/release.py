"""Which release this process runs: `release.json` beside `lib/`, written where releases are built."""

import json
from pathlib import Path
from typing import NamedTuple

from hybrid_engine import __version__

UNRELEASED = "unreleased"


class Release(NamedTuple):
    version: str
    name: str
    digest: str


def this_release() -> Release:
    """The release that this file is part of; name and digest are "unreleased" in a checkout."""
    path = Path(__file__).resolve().parents[3] / "release.json"
    try:
        about = json.loads(path.read_text())
        return Release(__version__, str(about["name"]), str(about["digest"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Release(__version__, UNRELEASED, UNRELEASED)
