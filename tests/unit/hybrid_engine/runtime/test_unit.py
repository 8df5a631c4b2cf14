"""The parts of the unit that a process runs in, by a systemctl that answers what it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid_engine.runtime import unit
from proofs.evidence import unit_parts as outside

ANSWER = "FragmentPath={0}/hybrid-engine.service\nDropInPaths={0}/20-resources.conf {0}/50-watchdog.conf\n"
ENVIRON = b"PATH=/usr/bin\0HTTPS_PROXY=http://a=b\0INVOCATION_ID=1234\0NOTIFY_SOCKET=/run/x\0WATCHDOG_PID=7\0EMPTY=\0"
World = Callable[..., Path]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Make a /proc with that cgroup, and a systemctl with that answer."""

    def make(cgroup: str = "0::/system.slice/hybrid-engine.service\n", reload: str = "no", code: int = 0) -> Path:
        own = tmp_path / "proc" / "self"
        own.mkdir(parents=True)
        (own / "cgroup").write_text(cgroup)
        (own / "environ").write_bytes(ENVIRON)
        (tmp_path / "hybrid-engine.service").write_text("[Service]\nExecStart=/x\n")
        (tmp_path / "20-resources.conf").write_text("\n[Service]\nNice=10\n\n")
        (tmp_path / "50-watchdog.conf").symlink_to("/dev/null")
        systemctl = tmp_path / "systemctl"
        answer = f"{ANSWER.format(tmp_path)}NeedDaemonReload={reload}\n"
        systemctl.write_text(f"#!/bin/sh\nenv > {tmp_path}/env\nprintf '%s' '{answer}'\nexit {code}\n")
        systemctl.chmod(0o755)
        monkeypatch.setattr(unit, "SYSTEMCTL", str(systemctl))
        return tmp_path / "proc"

    return make


@pytest.mark.holds("G1")
def test_parts_are_files_in_force_and_variables(world: World, tmp_path: Path) -> None:
    parts = unit.unit_parts(world())
    assert parts == [
        unit.part("file", f"{tmp_path}/hybrid-engine.service", b"[Service]\nExecStart=/x"),
        unit.part("file", f"{tmp_path}/20-resources.conf", b"[Service]\nNice=10"),
        unit.part("file", f"{tmp_path}/50-watchdog.conf", b""),
        unit.part("environment", "PATH", b"/usr/bin"),
        unit.part("environment", "HTTPS_PROXY", b"http://a=b"),
        unit.part("environment", "EMPTY", b""),
    ]


@pytest.mark.holds("G1")
def test_environment_does_not_choose_the_bus(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/tmp/bus")
    unit.unit_parts(world())
    assert "DBUS" not in (tmp_path / "env").read_text()


@pytest.mark.holds("G1")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cgroup": "0::/user.slice/session-1.scope\n"}, "in no unit of systemd"),
        ({"cgroup": "0::/\n"}, "in no unit of systemd"),
        ({"reload": "yes"}, "not those in force; use systemctl daemon-reload"),
        ({"code": 1}, "systemd does not name the files of hybrid-engine.service"),
    ],
)
def test_unit_that_cannot_be_told_is_an_error(world: World, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(unit.UnitError, match=reason):
        unit.unit_parts(world(**changes))


def test_missing_drop_in_is_an_error(world: World, tmp_path: Path) -> None:
    proc = world()
    (tmp_path / "20-resources.conf").unlink()
    with pytest.raises(unit.UnitError, match=r"cannot be read: .*20-resources\.conf"):
        unit.unit_parts(proc)


def test_missing_systemctl_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = world()
    monkeypatch.setattr(unit, "SYSTEMCTL", "/nowhere/systemctl")
    with pytest.raises(unit.UnitError, match="cannot be asked"):
        unit.unit_parts(proc)


@pytest.mark.holds("G1")
def test_proofs_read_the_same_parts_from_outside(world: World, tmp_path: Path) -> None:
    parts = unit.unit_parts(world())
    files = [tmp_path / name for name in ("hybrid-engine.service", "20-resources.conf", "50-watchdog.conf")]
    seen = [outside.of_file(str(path), path.read_bytes()) for path in files] + outside.of_environment(ENVIRON)
    assert seen == parts
    assert outside.digest(reversed(seen)) == unit.digest(parts)
    assert outside.OF_ONE_PROCESS == unit.OF_ONE_PROCESS
    assert outside.differences(parts, parts[1:]) == unit.differences(parts, parts[1:]) != []
