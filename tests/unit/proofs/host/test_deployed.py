"""What of a unit is read from outside: its files as systemd names them, its process's environment, the named files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from proofs.evidence import unit_parts
from proofs.evidence.redaction import Redactor
from proofs.host import deployed

AUTHORITY = f"{'a' * 64} ca_file /etc/hybrid-engine/ca file.pem"


def shown(folder: Path, pid: int, reload: str = "no") -> str:
    """An answer of `show_unit`, and the files that it names."""
    (folder / "x.service").write_text("[Service]\nExecStart=/x\n")
    (folder / "20-resources.conf").write_text("[Service]\nNice=10\n")
    (folder / "40-hardening.conf").symlink_to("/dev/null")
    drop_ins = f"{folder}/20-resources.conf {folder}/40-hardening.conf"
    return f"MainPID={pid}\nFragmentPath={folder}/x.service\nDropInPaths={drop_ins}\nNeedDaemonReload={reload}\n"


@pytest.mark.holds("EVIDENCE")
def test_parts_are_files_what_the_config_names_and_environment(tmp_path: Path) -> None:
    parts = deployed.parts_of_unit(shown(tmp_path, os.getpid()), f"x = 1 # default\nholds {AUTHORITY}\n")
    names = {part.split(" ", 1)[1] for part in parts}
    files = {f"file {tmp_path}/{name}" for name in ("x.service", "20-resources.conf", "40-hardening.conf")}
    assert files | {AUTHORITY.split(" ", 1)[1]} <= names
    assert all(name.startswith("environment ") for name in names - files - {AUTHORITY.split(" ", 1)[1]})
    assert f"{hashlib.sha256(os.environb[b'PATH']).hexdigest()} environment PATH" in parts
    assert parts == sorted(parts)


def test_environment_of_a_stopped_unit_is_unknown(tmp_path: Path) -> None:
    parts = deployed.parts_of_unit(shown(tmp_path, 0), "")
    assert len(parts) == 3


def test_only_a_running_unit_with_its_files_read_is_in_force() -> None:
    assert "does not run" in deployed._not_in_force("MainPID=0\nNeedDaemonReload=no\n")
    assert "daemon-reload" in deployed._not_in_force("MainPID=7\nNeedDaemonReload=yes\n")
    assert deployed._not_in_force("MainPID=7\nNeedDaemonReload=no\n") == ""


@pytest.mark.parametrize("name", ["KRAKEN_API_KEY", "DB_PASSWORD", "A_TOKEN", "HTTPS_PROXY", "AWS_SECRET_ACCESS_KEY"])
def test_redaction_keeps_parts(name: str) -> None:
    """What it shortened would be another digest than the one that the engine computes."""
    parts = unit_parts.of_environment(f"{name}=hunter2hunter2\0PATH=/bin".encode())
    assert Redactor({name: "hunter2hunter2"}).data({"unit_parts": parts}) == {"unit_parts": parts}
    assert "hunter2" not in "".join(parts)
