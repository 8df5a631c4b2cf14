"""The release that this process runs, from `release.json` beside `lib/`, which the release build writes."""

import json
from pathlib import Path
from typing import NamedTuple

from hybrid_engine import __version__

UNRELEASED = "unreleased"


class Release(NamedTuple):
    version: str
    name: str
    digest: str


def read_release() -> Release:
    """The release that this file is part of; in a checkout its name and digest are "unreleased"."""
    path = Path(__file__).resolve().parents[3] / "release.json"
    try:
        about = json.loads(path.read_text())
        return Release(__version__, str(about["name"]), str(about["digest"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Release(__version__, UNRELEASED, UNRELEASED)
