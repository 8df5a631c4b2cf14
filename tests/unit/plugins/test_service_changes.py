"""A change of a service's files on a disk that is full: nothing is replaced, and what was replaced comes back."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_disk import fill, small_disk
from tests.unit.plugins.loading import module, shared

module("service_files")  # loads what it shares
changes: Any = shared("service_changes")
UNIT = "x.service"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 64 KiB with a service's files; the records are elsewhere."""
    monkeypatch.setattr(changes, "transaction_file", lambda unit: str(tmp_path / "run" / f"{unit}.json"))
    monkeypatch.setattr(changes, "UNRECORDED", str(tmp_path / "unrecorded.json"))
    with small_disk(tmp_path / "disk", 64) as place:
        for name in ("one", "other"):
            (place / name).write_text(f"old {name}\n" + "x" * 6000)
        (place / "gone").write_text("to go\n")
        yield place


def desired(place: Path) -> list[dict[str, Any]]:
    new = [{"path": str(place / name), "kind": "file", "content": f"new {name}\n" * 800} for name in ("one", "other")]
    return [*new, {"path": str(place / "gone"), "kind": "absent"}]


def texts(place: Path) -> dict[str, str]:
    return {path.name: path.read_text()[:8] for path in sorted(place.iterdir()) if path.name != "filler"}


def test_full_disk_stops_a_change_before_anything_is_replaced(disk: Path) -> None:
    before = texts(disk)
    fill(disk)
    with pytest.raises(OSError, match="No space"):
        changes.make_all(UNIT, changes.compare(desired(disk)), restart=True)
    left = {name: text for name, text in texts(disk).items() if not name.endswith(".former")}
    assert left == before, "no draft is left either"


def test_full_disk_stops_no_revert(disk: Path, tmp_path: Path) -> None:
    before = texts(disk)
    changes.make_all(UNIT, changes.compare(desired(disk)), restart=True)
    assert texts(disk)["one"] == "new one\n"
    assert "gone" not in texts(disk)
    noted = json.loads((tmp_path / "unrecorded.json").read_text())
    assert noted["changed"] == [f"{disk}/one (content)", f"{disk}/other (content)", f"{disk}/gone (to go)"]
    fill(disk)
    record = json.loads((tmp_path / "run" / f"{UNIT}.json").read_text())["before"]
    for path, state in reversed(list(record.items())):
        changes.put_former(path, state)
    changes.forget_formers(record)
    assert texts(disk) == before


def test_second_run_keeps_what_the_first_one_found(disk: Path, tmp_path: Path) -> None:
    """The first one was cut off: what was there before it is what a revert puts back."""
    changes.make_all(UNIT, changes.compare(desired(disk)), restart=True)
    again = [{**state, "content": "newer\n"} if state["kind"] == "file" else state for state in desired(disk)]
    changes.make_all(UNIT, changes.compare(again), restart=True)
    record = json.loads((tmp_path / "run" / f"{UNIT}.json").read_text())["before"]
    for path, state in record.items():
        changes.put_former(path, state)
    assert texts(disk)["one"].startswith("old one")
    assert texts(disk)["gone"] == "to go\n"


def test_switch_of_another_deployment_is_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as somebody completes it; one that was cut off is gone on with."""
    record = tmp_path / "record"
    monkeypatch.setattr(changes, "transaction_file", lambda unit: str(record))
    monkeypatch.setattr(changes, "GAP_S", 0.3)
    assert changes.await_switch(UNIT) == ""
    record.write_text('{"who": "ann"}')
    began = time.monotonic()
    assert changes.await_switch(UNIT) == "", "nobody completes it"
    assert time.monotonic() - began > 0.2, "somebody may be about to"
    with record.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(0.5, held.close).start()
        assert changes.await_switch(UNIT) == "ann"
    with record.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr(changes, "SWITCH_S", 0.3)
        with pytest.raises(changes.Problem, match=r"another deployment \(of ann\) has been switching for 0.3 s"):
            changes.await_switch(UNIT)
