"""What others put where a service is to be: told of, kept as it was, and put back byte for byte."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
import yaml

from hybrid_engine.storage.schema import APPLICATION_ID
from tests.unit.plugins.loading import PLUGINS, shared

changes, adoption = shared("service_changes"), shared("adoption")
UNIT = "hybrid-engine.service"


def test_preflight_knows_the_id_of_the_engines_databases() -> None:
    values = yaml.safe_load((PLUGINS.parent / "roles/preflight/vars/main.yml").read_text())
    assert values["preflight_application"] == APPLICATION_ID


def database(path: Path, application: int) -> str:
    con = sqlite3.connect(path)
    con.execute(f"PRAGMA application_id = {application}")
    con.execute("CREATE TABLE ticks(id INTEGER PRIMARY KEY)")
    con.commit()
    con.close()
    return str(path)


def test_database_of_another_program_is_told(tmp_path: Path) -> None:
    foreign, ours = database(tmp_path / "foreign.db", 0), database(tmp_path / "ours.db", APPLICATION_ID)
    text = tmp_path / "text.db"
    text.write_text("no database")
    (tmp_path / "empty.db").touch()
    told = {
        name: list(adoption._database(str(tmp_path / f"{name}.db"), APPLICATION_ID))
        for name in ("foreign", "ours", "text", "empty", "missing")
    }
    assert [name for name, sentences in told.items() if sentences] == ["foreign", "text"]
    assert told["foreign"] == [f"{foreign} is another program's database: move it away, or set engine_db_path"]
    assert Path(ours).exists()


@pytest.mark.parametrize(
    ("line", "decides"),
    [
        ("ExecStart=/bin/x", True),
        ("  User = bob", True),
        ("RootDirectory=/srv", True),
        ("WorkingDirectory=", True),
        ("# ExecStart=/bin/x", False),
        ("ExecStartPre=/bin/true", False),
        ("Nice=5", False),
        ("Environment=User=x", False),
    ],
)
def test_dropin_that_decides_what_runs(line: str, decides: bool) -> None:
    assert bool(adoption.DECIDING.search(f"[Service]\n{line}\n")) == decides


def test_what_was_taken_over_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contents, mode, owner and time; what was not there goes, and so does what was added later."""
    monkeypatch.setattr(adoption, "ADOPTED", str(tmp_path / "adopted"))
    monkeypatch.setattr(adoption, "UNITS", str(tmp_path / "units"))
    monkeypatch.setattr(adoption, "deployed_file", lambda unit: str(tmp_path / "deployed.json"))
    monkeypatch.setattr(adoption, "show", lambda unit: {"ActiveState": "active", "UnitFileState": "enabled"})
    unit, override = tmp_path / "units" / UNIT, tmp_path / "units" / f"{UNIT}.d" / "override.conf"
    override.parent.mkdir(parents=True)
    unit.write_bytes(b"old\xff\n")
    override.write_text("dropin\n")
    override.chmod(0o640)
    os.utime(override, ns=(5, 1_000_000_007))
    new = override.with_name("20-resources.conf")
    owner = {"owner": str(os.getuid()), "group": str(os.getgid())}
    desired = [
        {"path": str(unit), "kind": "file", "content": "new\n", **owner},
        {"path": str(new), "kind": "file", "content": "new\n", **owner},
        {"path": str(override), "kind": "absent"},
    ]
    found = changes.compare(desired)
    record = changes.compare([{**adoption.adopted_record(UNIT, found, desired), **owner}])
    for change in [*record, *found]:
        changes.make(change)
    assert (unit.read_text(), override.exists()) == ("new\n", False)
    later = override.with_name("60-later.conf")
    later.touch()
    (tmp_path / "deployed.json").write_text(f'{{"files": {{"{later}": {{}}}}}}')
    assert adoption.read_adopted(UNIT)["active"] is True
    adoption.give_back(UNIT)
    assert (unit.read_bytes(), override.read_text()) == (b"old\xff\n", "dropin\n")
    status = override.stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 1_000_000_007)
    assert sorted(path.name for path in override.parent.iterdir()) == ["override.conf"]
    assert adoption.read_adopted(UNIT) == {}


def test_record_of_what_is_taken_over_is_not_shown() -> None:
    """It holds files of others as they are, with whatever is secret in them."""
    change = changes.Change(
        {"path": "/x", "kind": "file", "content": "PASSWORD=a", "secret": True}, {"kind": "absent"}, ""
    )
    assert "PASSWORD" not in str(changes.report([change])["diff"])
