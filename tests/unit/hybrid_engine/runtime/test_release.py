"""The release of a process is read from release.json beside lib/, and its files are compared with that digest."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hybrid_engine
from hybrid_engine.runtime.release import release_difference
from tests.support.process import clean_environment
from tests.support.release_tree import DIFFERENCES, make_release

RELEASES: dict[str, tuple[str | bytes | None, str]] = {
    "good": ('{"name": "0.1.0-abc", "digest": "abcdef", "version": "9"}', "0.1.0-abc abcdef"),
    "not JSON": ("{", "unreleased unreleased"),
    "a list": ("[]", "unreleased unreleased"),
    "no digest": ('{"name": "x"}', "unreleased unreleased"),
    "no text": (b"\xff\xfe", "unreleased unreleased"),
    "missing": (None, "unreleased unreleased"),
}


@pytest.mark.parametrize("kind", RELEASES)
def test_release_read_from_release_json(tmp_path: Path, kind: str) -> None:
    """The layout of a release: `lib/hybrid_engine`, and `release.json` beside `lib`."""
    content, expected = RELEASES[kind]
    package = Path(hybrid_engine.__file__).parent
    shutil.copytree(package, tmp_path / "lib" / "hybrid_engine", ignore=shutil.ignore_patterns("__pycache__"))
    if content is not None:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "release.json").write_bytes(data)
    code = "from hybrid_engine.runtime.release import read_release; print(*read_release()[1:])"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment({"PYTHONPATH": str(tmp_path / "lib")}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == expected


@pytest.mark.holds("G1")
@pytest.mark.parametrize("kind", DIFFERENCES)
def test_altered_release_is_named(tmp_path: Path, kind: str) -> None:
    home = make_release(tmp_path)
    assert release_difference(home) == ""
    alter, expected = DIFFERENCES[kind]
    alter(home)
    assert expected in release_difference(home)
