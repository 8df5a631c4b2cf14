"""Hosts made from one image share their machine id: the name and the ssh host key tell them apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybrid_engine import live_gate
from proofs.host.identity import machine_identity


def make_host(root: Path, machine_id: str, key: str) -> Path:
    (root / "etc/ssh").mkdir(parents=True)
    (root / "etc/machine-id").write_text(machine_id)
    if key:
        (root / "etc/ssh/ssh_host_ed25519_key.pub").write_text(f"ssh-ed25519 {key} root@nuc\n")
    return root


def test_twins_differ_by_key_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = [make_host(tmp_path / key, "a" * 32 + "\n", key) for key in ("AAAA", "BBBB")]
    names = {machine_identity(root) for root in twins}
    uname = list(os.uname())
    monkeypatch.setattr("os.uname", lambda: os.uname_result([uname[0], "another", *uname[2:]]))
    names |= {machine_identity(root) for root in twins}
    assert len(names) == 4
    assert all(len(name) == 32 for name in names)


@pytest.mark.parametrize(("machine_id", "key"), [("a" * 32 + "\n", "AAAA"), ("b" * 32, ""), ("", "AAAA"), ("\n", "")])
def test_gate_and_proofs_compute_the_same(tmp_path: Path, machine_id: str, key: str) -> None:
    root = make_host(tmp_path / "host", machine_id, key)
    assert machine_identity(root) == live_gate._machine_identity(root)
    assert bool(machine_identity(root)) == bool(machine_id.strip())


def test_host_without_a_machine_id_has_no_identity(tmp_path: Path) -> None:
    assert machine_identity(tmp_path) == ""
