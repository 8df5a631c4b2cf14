"""overload, the short lock: what its figures come to, each wrong in turn; and the lock that it rests on."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import overload
from proofs.evidence.recorder import Recorder
from proofs.host.shell import Host
from tests.support.judging import DEPLOYED, judge_with, verdict_of

GOOD: dict[str, Any] = {
    "n": 2400,
    "back_s": 0.3,
    "restarted": False,
    "state": "active",
    "stored": 2000,
    "newest": 3500,
    "holes": 1500,
    "dropped_in_gaps": 1500,
    "in_order": True,
    "torn": [],
    "integrity": "ok",
    "newest_kept": 200,
    "rows": {
        "compared": 2000,
        "difference": "",
        "sources": {"mock": {"stored": 2000, "missing": 1500}},
        "signals": 1,
        "chains": "",
    },
    "books": {
        "received": 3500,
        "sampled_out": 0,
        "rejected": 0,
        "duplicate": 0,
        "dropped": 1500,
        "waiting": 0,
        "admitted": 2000,
        "exit_code": 0,
    },
}


def test_good_figures_pass() -> None:
    result = judge_with(overload.Short(DEPLOYED), GOOD)
    assert (str(result.verdict), result.reason) == ("PASS", "")
    assert "1500 dropped and counted" in overload.headline([result])


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"books.dropped": 0}, "FAIL at the guard"),
        ({"books.dropped": 1499, "books.received": 3499}, "FAIL"),
        (
            {
                "holes": 0,
                "dropped_in_gaps": 0,
                "books.dropped": 0,
                "newest": 2000,
                "stored": 2000,
                "books.received": 2000,
            },
            "FAIL at the guard",
        ),  # nothing was dropped: then nothing was shown
        ({"dropped_in_gaps": 1499}, "FAIL"),
        ({"newest": 3501}, "FAIL"),
        ({"stored": 1999}, "FAIL"),
        ({"back_s": None}, "FAIL"),
        ({"back_s": 3.1}, "FAIL"),
        ({"restarted": True}, "FAIL"),
        ({"books.exit_code": None}, "FAIL"),
        ({"in_order": False}, "FAIL"),
        ({"torn": [7]}, "FAIL"),
        ({"newest_kept": 199}, "FAIL at the guard"),
        ({"rows.difference": "row 7: price"}, "FAIL at the guard"),
        ({"rows.sources": {"mock": {"stored": 2000, "missing": 1499}}}, "FAIL at the guard"),
        ({"integrity": "row 7 missing"}, "FAIL"),
        ({"n": 2399}, "INCONCLUSIVE"),
        ({"books": ...}, "ERROR"),
        ({"books.waiting": None}, "ERROR"),
    ],
)
def test_each_figure_counts(changes: dict[str, Any], verdict: str) -> None:
    assert verdict_of(overload.Short(DEPLOYED), GOOD, changes) == verdict


def test_lock_is_held_until_released(tmp_path: Path) -> None:
    path = str(tmp_path / "some.db")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    assert overload._refused(path) == ""
    lock = overload.Lock(Host(Recorder(tmp_path / "events.jsonl"), "test"), path)
    assert lock.reply == "locked"
    assert "locked" in overload._refused(path)
    lock.release()
    assert overload._refused(path) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is another user for a while")
def test_database_is_locked_as_the_owner_of_its_directory(tmp_path: Path) -> None:
    """A link that an engine has put there leads its own user nowhere, and root everywhere."""
    top = Path(tempfile.mkdtemp(dir="/tmp"))
    top.chmod(0o755)
    try:
        folder, outside = top / "state", top / "outside.db"
        folder.mkdir()
        os.chown(folder, 4242, 4242)
        with closing(sqlite3.connect(outside)) as database:
            database.execute("CREATE TABLE t (x)")
        outside.chmod(0o600)
        (folder / "hybrid.db").symlink_to(outside)
        recorder = Recorder(tmp_path / "events.jsonl")
        lock = overload.Lock(Host(recorder, "overload"), str(folder / "hybrid.db"))
        assert lock.reply == ""
        lock.release()
        assert overload._refused(str(folder / "hybrid.db")) == "unable to open database file"
        recorder.close()
    finally:
        shutil.rmtree(top)
