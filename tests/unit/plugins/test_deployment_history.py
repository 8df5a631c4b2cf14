"""The history of deployments: entries are written whole or not at all, and read past what a power cut left."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import re
from pathlib import Path

import pytest

from tests.support.small_disk import fill, small_disk
from tests.unit.plugins.loading import action, module, shared

drift = shared("drift")
writer = module("deployment_history")
reader = action("deployment_history")


def line(when: str, **more: object) -> dict[str, object]:
    return {"when": f"{when}T00:00:00.000Z", "what": "deploy", "outcome": "done", "by": "ann", **more}


def put(path: Path, *lines: dict[str, object]) -> None:
    for each in lines:
        writer.append(str(path), json.dumps(each).encode())


def test_entries_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "log" / "deployments.jsonl"
    put(path, line("2026-11-01"), line("2026-11-02", what="rollback", of="40-hardening"))
    entries, unreadable = drift.read_history(str(path))
    assert [(entry["line"], entry["what"]) for entry in entries] == [(1, "deploy"), (2, "rollback")]
    assert unreadable == []
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.holds("HISTORY")
def test_half_written_line_loses_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "deployments.jsonl"
    put(path, line("2026-11-01"), line("2026-11-02"))
    os.truncate(path, path.stat().st_size - 20)
    assert drift.read_history(str(path))[1] == [2]
    put(path, line("2026-11-03"))
    entries, unreadable = drift.read_history(str(path))
    assert ([entry["line"] for entry in entries], unreadable) == ([1, 3], [2])
    assert "not readable, left by a power cut: line 2" in reader.table(entries, unreadable)


def test_partial_write_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deployments.jsonl"
    put(path, line("2026-11-01"))
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr(writer.os, "write", lambda handle, data: write(handle, data[:7]))
    with pytest.raises(OSError, match="no room"):
        put(path, line("2026-11-02"))
    assert path.read_bytes() == before

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.undo()
    monkeypatch.setattr(writer.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        put(path, line("2026-11-02"))
    assert path.read_bytes() == before


def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    path, target = tmp_path / "deployments.jsonl", tmp_path / "target"
    target.write_text("")
    path.symlink_to(target)
    with pytest.raises(OSError, match="is a link where a file belongs"):
        put(path, line("2026-11-01"))
    assert target.read_text() == ""
    with pytest.raises(OSError, match="is a link where a file belongs"):
        drift.read_history(str(path))


def test_append_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An undone write truncates the file, which must not cut off another writer's entry."""
    path, write = tmp_path / "deployments.jsonl", os.write

    def watched(handle: int, data: bytes) -> int:
        with (tmp_path / writer.LOCK).open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return write(handle, data)

    monkeypatch.setattr(writer.os, "write", watched)
    put(path, line("2026-11-01"))
    assert len(drift.read_history(str(path))[0]) == 1


@pytest.mark.holds("HISTORY")
def test_reader_of_the_history_cannot_hold_its_lock(tmp_path: Path) -> None:
    """Anybody may read the history, and whoever can open a file can lock it."""
    path = tmp_path / "deployments.jsonl"
    put(path, line("2026-11-01"))
    assert (tmp_path / writer.LOCK).stat().st_mode & 0o777 == 0o600
    with path.open() as reading:
        fcntl.flock(reading, fcntl.LOCK_EX)
        put(path, line("2026-11-02"))
    (tmp_path / writer.LOCK).chmod(0o644)  # by whatever hand
    put(path, line("2026-11-03"))
    assert (tmp_path / writer.LOCK).stat().st_mode & 0o777 == 0o600
    assert len(drift.read_history(str(path))[0]) == 3


@pytest.mark.holds("HISTORY")
def test_lock_is_waited_for_a_limited_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deployments.jsonl"
    put(path, line("2026-11-01"))
    monkeypatch.setattr(writer, "LOCKED_S", 0.2)
    with (tmp_path / writer.LOCK).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(writer.HistoryHeld) as error:
            put(path, line("2026-11-02"))
    text = str(error.value)
    assert text == f"another deployment has held {tmp_path}/{writer.LOCK} for more than 0.2 s: let it end, or end it"
    assert len(drift.read_history(str(path))[0]) == 1


def test_directory_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(OSError, match="others can write to this directory"):
        put(tmp_path / "deployments.jsonl", line("2026-11-01"))
    assert list(tmp_path.iterdir()) == []


def _many(path: Path) -> None:
    put(path, *(line("2026-11-01", by=f"{os.getpid()}-{number}" * 100) for number in range(50)))


def test_concurrent_writers_do_not_mix_entries(tmp_path: Path) -> None:
    path = tmp_path / "deployments.jsonl"
    writers = [multiprocessing.get_context("fork").Process(target=_many, args=(path,)) for _ in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    entries, unreadable = drift.read_history(str(path))
    assert len({entry["by"] for entry in entries}) == 200
    assert unreadable == []


def test_origin_is_the_newest_successful_entry(tmp_path: Path) -> None:
    path = tmp_path / "deployments.jsonl"
    config = "/etc/hybrid-engine/config.toml"
    put(
        path,
        line("2026-11-01", changed=[f"{config} (missing)"]),
        line("2026-11-02", changed=[f"{config} (content)", "/opt/x (content)"]),
        line("2026-11-03", changed=[f"{config} (content)"], outcome="taken back"),
        line("2026-11-04", changed=["/opt/x (content)", f"{config}.orig (to go)"]),
    )
    entries, _ = drift.read_history(str(path))
    assert drift.describe(drift.origin(entries, config)) == (
        "line 2 of the history: deploy, 2026-11-02T00:00:00Z, by ann"
    )
    assert drift.describe(drift.origin(entries, "/etc/other")) == "deployed before the history began"


def test_reason_has_no_journal_and_no_secrets() -> None:
    assert writer.reason("it ended: failed. Its last lines:\nengine\n{}") == "it ended: failed."
    text = writer.reason('systemctl start x: no\n  see wss://me:pw@host/?token=abc\n{"message": "x"}\nback')
    assert text == "systemctl start x: no; see wss://[redacted]@host/?token=[redacted]; back"
    assert len(writer.reason("x" * 9999)) == writer.MAX_REASON


def test_table_has_a_row_per_entry_and_the_reason_of_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "deployments.jsonl"
    put(
        path,
        line("2026-11-01", release="0.1.0-aaa", config_digest="c" * 64, ssh_user="op", **{"from": "desk"}),
        line("2026-11-02", outcome="refused", why="it is ill", changed=["/a/b.conf (content)", "x", "y", "z", "zz"]),
    )
    head, first, second, why = reader.table(*drift.read_history(str(path))).splitlines()
    assert head.split() == list(reader.COLUMNS)
    assert re.sub(" +", " ", first) == "1 2026-11-01T00:00:00Z deploy done ann@desk as op 0.1.0-aaa cccccccccccc"
    assert second.endswith("b.conf (content), x, y and 2 more")
    assert why.strip() == "it is ill"
    assert "before the history began" in reader.table([], [])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.holds("HISTORY")
def test_full_disk_has_room_for_the_next_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 128) as disk:
        path = disk / "deployments.jsonl"
        put(path, line("2026-11-01"))
        fill(disk)
        put(path, line("2026-11-02", why="x" * 4000))
        entries, unreadable = drift.read_history(str(path))
        assert ([entry["when"][:10] for entry in entries], unreadable) == (["2026-11-01", "2026-11-02"], [])
