"""Backups of edited files: byte for byte, and of nothing that a path leads to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proofs.host.regular_file import IrregularFile
from proofs.restore import file_backups


def test_edited_removed_and_added_files_are_restored(tmp_path: Path) -> None:
    edited, added, removed = (tmp_path / name for name in ("edited", "added", "removed"))
    edited.write_bytes(b"before")
    removed.write_bytes(b"there")
    originals = file_backups.back_up([edited, added, removed], tmp_path / "originals")
    edited.write_bytes(b"after")
    added.touch()
    removed.unlink()
    assert sorted(file_backups.changed(originals)) == sorted(map(str, (edited, added, removed)))
    file_backups.put_back(originals)
    assert (edited.read_bytes(), added.exists(), removed.read_bytes()) == (b"before", False, b"there")
    assert file_backups.changed(originals) == []


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_stands_in_the_place_of_a_file_is_not_read(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "file", tmp_path / "target"
    path.write_text("mine")
    target.write_text("of somebody else")
    originals = file_backups.back_up([path], tmp_path / "originals")
    path.unlink()
    if kind == "link":
        path.symlink_to(target)
    else:
        os.mkfifo(path)
    with pytest.raises(IrregularFile):
        file_backups.back_up([path], tmp_path / "more")
    assert file_backups.changed(originals) == [str(path)]
    file_backups.put_back(originals)
    assert (path.read_text(), path.is_symlink(), target.read_text()) == ("mine", False, "of somebody else")
