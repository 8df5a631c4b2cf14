"""A file appears whole under its name, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid_engine.runtime.errors import ConfigError
from hybrid_engine.storage.new_file import new_file


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "hybrid.db"
    path.write_text("rows")
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_at_the_end_with_its_mode(database: Path) -> None:
    path = database.with_name("copy")
    before = os.umask(0o077)
    try:
        with new_file(path, database) as draft:
            draft.write_text("whole")
            draft.with_name("file-wal").touch()  # what SQLite puts beside it
            assert not path.exists()
    finally:
        os.umask(before)
    assert names(database.parent) == ["copy", "hybrid.db"]
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("whole", 0o640)


def make(path: Path, database: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
    with new_file(path, database) as draft:
        draft.write_text("mine")
        meanwhile()


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_error_leaves_nothing(database: Path, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        make(database.with_name("copy"), database, fail)
    assert names(database.parent) == ["hybrid.db"]


def test_file_that_appears_meanwhile_is_kept(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = database.with_name("copy")
    for _ in range(2):
        with pytest.raises(ConfigError, match="is there already"):
            make(path, database, lambda: path.write_text("theirs"))
        assert (path.read_text(), names(database.parent)) == ("theirs", ["copy", "hybrid.db"])
        path.unlink()
        monkeypatch.setattr(os, "link", refuse)  # a file system without links
    make(path, database)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("create", "name", "reason"),
    [
        (Path.touch, "there", "is there already, and is not overwritten; name another file"),
        (os.mkfifo, "fifo", "is there already"),
        (lambda path: path.symlink_to("nothing"), "dangling", "is there already"),
        (Path.mkdir, "folder", "is a directory; name a file in it"),
        (lambda path: path.symlink_to("hybrid.db"), "link", "is the database itself"),
        (lambda path: path.hardlink_to(path.with_name("hybrid.db")), "hard", "is the database itself"),
        (None, "hybrid.db", "is the database itself; name another file"),
        (None, "hybrid.db-wal", "SQLite would take it for a part of"),
        (None, "hybrid.db-shm", "SQLite would take it for a part of"),
        (None, "hybrid.db-journal", "SQLite would take it for a part of"),
        (None, "missing/copy", "missing does not exist; create it first"),
        (None, "hybrid.db/copy", "cannot be created: Not a directory"),
        (None, "x" * 300, "cannot be created: File name too long"),
    ],
)
def test_impossible_path_is_refused_at_once(
    database: Path, create: Callable[[Path], None] | None, name: str, reason: str
) -> None:
    path = database.with_name(name) if "/" not in name else database.parent / name
    if create is not None:
        create(path)
    before = names(database.parent)
    with pytest.raises(ConfigError, match=reason):
        make(path, database, lambda: pytest.fail("it began"))
    assert names(database.parent) == before


def test_interrupt_right_behind_the_directory_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Path.mkdir

    def make_and_end(path: Path, mode: int) -> None:
        made(path, mode)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", make_and_end)
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "copy.db", tmp_path / "x.db"):
        pass
    assert list(tmp_path.iterdir()) == []
