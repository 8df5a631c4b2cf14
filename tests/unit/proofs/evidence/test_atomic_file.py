"""A file is replaced whole: content, mode, and no draft left behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from proofs.evidence.atomic_file import write_atomically


def test_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("old")
    write_atomically(path, b"new", 0o600, (os.getuid(), os.getgid()))
    assert (path.read_bytes(), path.stat().st_mode & 0o7777) == (b"new", 0o600)
    assert os.listdir(tmp_path) == ["x.conf"]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError("no space")

    path = tmp_path / "x.conf"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="no space"):
            write_atomically(path, b"new")
    assert path.read_text() == "old"
    write_atomically(path, b"new")  # over the draft that was left
    assert os.listdir(tmp_path) == ["x.conf"]


def test_concurrent_writers_leave_one_whole_file(tmp_path: Path) -> None:
    path, body = tmp_path / "blob", b"x" * 100_000
    threads = [threading.Thread(target=write_atomically, args=(path, body, None, None, True)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == body
    assert os.listdir(tmp_path) == ["blob"]


def test_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    path, target = tmp_path / "BUGLOG.md", tmp_path / "target"
    target.write_text("untouched")
    path.symlink_to(target)
    write_atomically(path, b"page")
    assert (path.read_bytes(), path.is_symlink(), target.read_text()) == (b"page", False, "untouched")
    path.with_name(".BUGLOG.md.new").symlink_to(target)
    with pytest.raises(OSError, match=r"[Ll]oop|symbolic link"):
        write_atomically(path, b"another")
    assert (path.read_bytes(), target.read_text()) == (b"page", "untouched")
