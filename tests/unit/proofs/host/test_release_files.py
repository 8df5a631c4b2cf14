"""The proofs read the release's digest off its files, and name the first that is not as it was built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proofs.host import deployed, release_files
from tests.support.release_tree import DIFFERENCES, make_release


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize("kind", DIFFERENCES)
def test_altered_release_is_named(tmp_path: Path, kind: str) -> None:
    home = make_release(tmp_path)
    assert release_files.digest(home) == json.loads((home / "release.json").read_text())["digest"]
    alter, expected = DIFFERENCES[kind]
    alter(home)
    with pytest.raises(release_files.AlteredRelease) as caught:
        release_files.digest(home)
    assert expected in str(caught.value)


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"release_digest": "a" * 64}, "calls itself the release a+, and its files are another"),
        ({}, "no release_digest"),
    ],
)
def test_engine_that_names_another_release_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: dict[str, str], expected: str
) -> None:
    engine = tmp_path / "release" / "bin" / "hybrid-engine"
    engine.parent.mkdir(parents=True)
    engine.write_text(f"#!/bin/sh\necho '{json.dumps(output)}'\n")
    engine.chmod(0o755)
    monkeypatch.setattr(release_files, "digest", lambda home: "b" * 64)
    with pytest.raises(deployed.NotLive, match=expected):
        deployed.read(engine)
