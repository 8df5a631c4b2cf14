"""Uninstalling knows everything that this project puts on a host, and leaves what others put beside it."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.plugins.loading import module

ROOT = Path(__file__).parents[3]
uninstalled: Any = module("uninstalled")
VARS = yaml.safe_load((ROOT / "roles/engine/vars/main.yml").read_text())
PLACE = re.compile(r"/(?:var|run|etc|opt|usr/local)/[\w./-]*hybrid[\w.-]*")
# Below /run, removed by the proofs or the candidate that create them.
FIRST_SYSTEMS = "/opt/hybrid-trading-bot"  # in the text of its unit, which the proof adoption has; nothing is put there
TRANSIENT = (FIRST_SYSTEMS, "/run/systemd/system", "/run/systemd/transient", "/run/hybrid-stage-")


def removed_or_data() -> list[str]:
    """Every path that engine_state=absent removes, or leaves as data."""
    words = {"engine_root": "/opt/hybrid-engine", "engine_config_dir": "/etc/hybrid-engine"}
    words["engine_state_dir"] = VARS["engine_state_dir"]
    listed = [*VARS["engine_all_paths"], *VARS["engine_all_data"], *(etc["path"] for etc in VARS["engine_all_shared"])]
    return [re.sub(r"\{\{ (\w+) \}\}", lambda match: words[match[1]], path) for path in listed]


def named_paths() -> dict[str, str]:
    """{path: the file that names it} of this project's paths in everything that runs on a host."""
    sources = [path for role in (ROOT / "roles").iterdir() if role.name != "lab_nuc" for path in role.rglob("*")]
    sources += [*(ROOT / "playbooks").iterdir(), *(ROOT / "templates").rglob("*"), *(ROOT / "proofs").rglob("*.py")]
    texts = {path: path.read_text() for path in sources if path.suffix in (".py", ".yml", ".j2", ".sh")}
    return {place.rstrip("."): str(path) for path, text in texts.items() for place in PLACE.findall(text)}


def test_every_path_of_the_project_is_removed_or_data() -> None:
    units = {path.name.removesuffix(".j2") for path in (ROOT / "templates/systemd").iterdir()}
    found = {place: path for place, path in named_paths().items() if not place.startswith(TRANSIENT)}
    assert len(found) > 10
    for place, path in found.items():
        unit = place.removeprefix("/etc/systemd/system/").removesuffix(".d") in units
        assert unit or any(f"{place}/".startswith(f"{top}/") for top in removed_or_data()), f"{path} names {place}"


def test_every_unit_with_a_template_is_removed() -> None:
    assert "*.service.j2" in VARS["engine_all_units"]
    kinds = {path.name.rpartition(".j2")[0].rpartition(".")[2] for path in (ROOT / "templates/systemd").iterdir()}
    assert kinds <= {"service", "timer", "conf"}, "another kind of unit has to be listed as well"


def test_host_held_by_a_proof_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    monkeypatch.setattr(uninstalled, "PROOF_LOCK", str(lock))
    uninstalled.lock_host()  # nobody ever held it
    lock.write_text("run soak-1, pid 7\n")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(uninstalled.HostHeld, match="run soak-1, pid 7"):
            uninstalled.lock_host()
    uninstalled.lock_host()


def test_files_of_others_stay_and_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNITS", "STAMPS", "DEPLOYED"):
        monkeypatch.setattr(uninstalled, name, str(tmp_path / name))
    for path in ("UNITS/x.service.d/20-ours.conf", "UNITS/x.service.d/90-mine.conf", "etc/config.toml", "etc/my.pem"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    (tmp_path / "DEPLOYED").mkdir()
    (tmp_path / "DEPLOYED/x.service.json").write_text(
        f'{{"files": {{"{tmp_path}/UNITS/x.service.d/20-ours.conf": {{}}}}}}'
    )
    options = {"units": ["x.service"], "paths": [], "data": [str(tmp_path / "data")], "keep_data": False}
    options["shared"] = [{"path": str(tmp_path / "etc"), "names": ["config.toml"]}]
    remaining: list[str] = []
    paths = uninstalled.paths_to_remove(options, options["units"], remaining)
    assert paths == [f"{tmp_path}/etc/config.toml", f"{tmp_path}/UNITS/x.service.d/20-ours.conf"]
    assert [line.partition(":")[0] for line in remaining] == [
        f"{tmp_path}/etc/my.pem",
        f"{tmp_path}/UNITS/x.service.d/90-mine.conf",
    ]
    (tmp_path / "UNITS/x.service.d/90-mine.conf").unlink()
    (tmp_path / "data").mkdir()
    assert uninstalled.paths_to_remove(options, options["units"], [])[1:] == [
        f"{tmp_path}/UNITS/x.service.d/20-ours.conf",
        f"{tmp_path}/UNITS/x.service.d",
        f"{tmp_path}/data",
    ]


def test_directory_above_what_stays_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNITS", "STAMPS", "DEPLOYED"):
        monkeypatch.setattr(uninstalled, name, str(tmp_path / name))
    root, pattern = tmp_path / "opt", VARS["engine_all_releases"]
    for name in ("0.1.0-aaaaaaaaaaaa", ".staging-x1", "0.1.0-notes", "mine"):
        (root / "releases" / name).mkdir(parents=True)
    (root / "current").symlink_to("releases/0.1.0-aaaaaaaaaaaa")
    (root / "backup").mkdir()
    shared = [
        {"path": str(root / "releases"), "names": [], "pattern": pattern},
        {"path": str(root), "names": ["releases", "current"]},
    ]
    options = {"units": [], "paths": [], "data": [], "keep_data": True, "shared": shared}
    remaining: list[str] = []
    paths = uninstalled.paths_to_remove(options, options["units"], remaining)
    assert paths == [f"{root}/releases/{name}" for name in (".staging-x1", "0.1.0-aaaaaaaaaaaa")] + [f"{root}/current"]
    assert [line.partition(":")[0] for line in remaining] == [
        *(f"{root}/releases/{name}" for name in ("0.1.0-notes", "mine")),
        f"{root}/backup",
    ]
    for name in ("releases/0.1.0-notes", "releases/mine", "backup"):
        (root / name).rmdir()
    assert uninstalled.paths_to_remove(options, options["units"], [])[-3:] == [
        f"{root}/releases",
        f"{root}/current",
        f"{root}",
    ]


def test_what_a_link_leads_to_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNITS", "STAMPS", "DEPLOYED"):
        monkeypatch.setattr(uninstalled, name, str(tmp_path / name))
    (tmp_path / "elsewhere/releases").mkdir(parents=True)
    (tmp_path / "opt").symlink_to("elsewhere")
    options = {"units": [], "paths": [], "data": [], "keep_data": True}
    options["shared"] = [{"path": str(tmp_path / "opt"), "names": ["releases"]}]
    assert uninstalled.paths_to_remove(options, options["units"], []) == [str(tmp_path / "opt")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data of an engine that put links, a FIFO and directories among its own files, and files outside."""
    home, outside = tmp_path / "data", tmp_path / "outside"
    (home / "deep").mkdir(parents=True)
    (outside / "folder").mkdir(parents=True)
    for path in (home / "hybrid.db", home / "deep" / "more", outside / "secret", outside / "folder" / "file"):
        path.write_text("kept")
        path.chmod(0o640)
    (home / "hybrid.db-wal").symlink_to(outside / "secret")
    (home / "deep" / "up").symlink_to(outside / "folder")
    os.mkfifo(home / "hybrid.db-shm")
    return home


def modes(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {path: path.lstat() for path in [folder, *folder.rglob("*")]}
    return {str(path): (status.st_mode, status.st_uid, status.st_gid) for path, status in found.items()}


def test_data_are_given_to_root_and_nothing_that_they_link_to(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = pwd.getpwuid(os.geteuid())
    before, given = modes(data.parent / "outside"), list[str]()
    monkeypatch.setattr(uninstalled.os, "chown", lambda path, *ids: given.append(os.path.realpath(path)))
    opened, real = list[int](), os.open

    def watched(path: str, flags: int, *, dir_fd: int | None = None) -> int:
        opened.append(flags)
        return real(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(uninstalled.os, "open", watched)
    uninstalled.give_to_root(str(data), [me])
    assert all(flags & os.O_NOFOLLOW for flags in opened)
    assert opened
    assert modes(data.parent / "outside") == before
    assert stat.S_IMODE((data / "hybrid.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((data / "deep").stat().st_mode) == 0o700
    assert len(given) == len(uninstalled.owned_by(str(data), [me])) == 7


def test_data_are_removed_and_nothing_that_they_link_to(data: Path) -> None:
    before = modes(data.parent / "outside")
    at = os.open(data, os.O_RDONLY)
    for _ in range(1200):  # deeper than Python recurses
        os.mkdir("d", dir_fd=at)
        at, above = os.open("d", os.O_RDONLY, dir_fd=at), at
        os.close(above)
    os.close(at)
    with pytest.raises(OSError, match="beyond counting"):
        uninstalled.owned_by(str(data), [pwd.getpwuid(os.geteuid())])
    uninstalled.remove(str(data))
    assert not data.exists()
    assert modes(data.parent / "outside") == before


def test_unit_that_no_deployment_recorded_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uninstalled, "UNITS", str(tmp_path))
    monkeypatch.setattr(uninstalled, "deployed_files", lambda: {str(tmp_path / "ours.service")})
    for name in ("ours.service", "theirs.service", "never-recorded.service"):
        (tmp_path / name).touch()
    remaining: list[str] = []
    recorded = ["ours.service", "theirs.service", "missing.service"]
    assert uninstalled.foreign_units({"recorded": recorded}, remaining) == {"theirs.service"}
    assert remaining == [f"{tmp_path}/theirs.service: not put there by a deployment, so it stays"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_mount_point_is_emptied_and_stays(tmp_path: Path) -> None:
    """The directory itself, and one deeper down; what lies beside that goes."""
    inner = tmp_path / "data" / "deep" / "inner place"
    (tmp_path / "data").mkdir()
    mounted: list[Path] = []
    try:
        for place in (tmp_path / "data", inner):
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
            mounted.insert(0, place)
            (place / "file").touch()
        (tmp_path / "data" / "beside").mkdir()
        assert uninstalled.mount_points(str(tmp_path / "data")) == [str(inner), str(tmp_path / "data")]
        uninstalled.remove(str(tmp_path / "data"))
        assert sorted(path.name for path in (tmp_path / "data").rglob("*")) == ["deep", "inner place"]
    finally:
        for place in mounted:
            subprocess.run(["umount", str(place)], check=True)


def test_users_are_known_by_their_number_in_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the same name and comment with another number was made by somebody else."""
    history = tmp_path / "deployments.jsonl"
    monkeypatch.setattr(uninstalled, "HISTORY", str(history))
    ours = pwd.struct_passwd(("hybrid-engine", "x", 997, 997, "Hybrid engine", "/", "/usr/sbin/nologin"))
    monkeypatch.setattr(uninstalled.pwd, "getpwall", lambda: [ours])
    monkeypatch.setattr(uninstalled.grp, "getgrall", list)
    options, remaining = {"users": ["hybrid-engine"], "group": "hybrid-engine"}, list[str]()
    assert uninstalled.accounts(options, remaining) == ([ours], ""), "deployed before the history had numbers"
    for number, stays in ((997, False), (1001, True)):
        entry = {"when": "2026-12-01T00:00:00Z", "changed": [f"user hybrid-engine (made, uid {number})"]}
        history.write_text(json.dumps(entry) + "\n")
        remaining.clear()
        users, _ = uninstalled.accounts(options, remaining)
        assert (users == [], bool(remaining)) == (stays, stays)
