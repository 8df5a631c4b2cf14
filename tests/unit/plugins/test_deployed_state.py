"""What the timer on a host finds: how files and the live release differ from what was deployed."""

from __future__ import annotations

import fcntl
import getpass
import grp
import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.unit.plugins.test_deployment_history import put, state

UNIT = "hybrid-engine.service"
LINE = {"when": "2026-11-01T00:00:00.000Z", "what": "deploy", "outcome": "done", "by": "ann"}
BY = "(line 1 of the history: deploy, 2026-11-01T00:00:00Z, by ann)"


def about(path: Path, **more: str) -> dict[str, str]:
    """What a deployment records of a file."""
    mine = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name, "mode": "0644"}
    return mine | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} | more


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files and a link as a deployment left them, which is line 1 of the history."""
    for name in ("HISTORY", "DEPLOYED", "ROLLED_BACK", "CURRENT", "PROOF_LOCK"):
        monkeypatch.setattr(state, name, str(tmp_path / name))
    monkeypatch.setattr(state, "_show", lambda unit, key: "")
    (tmp_path / "DEPLOYED").mkdir()
    (tmp_path / f"{UNIT}.d").mkdir()
    files = [tmp_path / name for name in ("config.toml", UNIT, f"{UNIT}.d/40-hardening.conf")]
    for path in files:
        path.write_text(path.name)
        path.chmod(0o644)
    (tmp_path / "link").symlink_to("there")
    record = {"files": {str(path): about(path) for path in files}, "links": {str(tmp_path / "link"): "there"}}
    (tmp_path / f"DEPLOYED/{UNIT}.json").write_text(json.dumps(record))
    put(tmp_path / "HISTORY", {**LINE, "changed": [f"{path} (missing)" for path in [*files, tmp_path / "link"]]})
    return tmp_path


def files(host: Path) -> list[str]:
    history, _ = state.entries(str(host / "HISTORY"))
    return [line.replace(f"{host}/", "") for line in state._files(history, UNIT)]


def test_what_is_as_deployed_is_no_drift(host: Path) -> None:
    assert files(host) == []


def test_each_way_to_differ_is_told_with_its_line(host: Path) -> None:
    (host / "config.toml").write_text("by hand")
    (host / UNIT).chmod(0o666)
    (host / f"{UNIT}.d/40-hardening.conf").unlink()
    (host / "link").unlink()
    (host / "link").symlink_to("elsewhere")
    assert files(host) == [
        f"config.toml is altered {BY}",
        f"{UNIT} is of mode 0666 {BY}",
        f"{UNIT}.d/40-hardening.conf is missing {BY}",
        f"link leads to elsewhere where there was deployed {BY}",
    ]


def test_a_rolled_back_dropin_is_away_and_no_drift_and_there_it_is(host: Path) -> None:
    (host / f"ROLLED_BACK/{UNIT}").mkdir(parents=True)
    (host / f"ROLLED_BACK/{UNIT}/40-hardening.conf").write_text("{}")
    assert files(host) == [f"{UNIT}.d/40-hardening.conf is there, and rolled back {BY}"]
    (host / f"{UNIT}.d/40-hardening.conf").unlink()
    assert files(host) == []


def test_others_dropins_and_a_unit_that_systemd_has_not_read(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = f"/run/{UNIT}.d/zz.conf {host}/{UNIT}.d/40-hardening.conf /usr/lib/service.d/distribution.conf"
    told = {"DropInPaths": paths, "NeedDaemonReload": "yes"}
    monkeypatch.setattr(state, "_show", lambda unit, key: told.get(key, ""))
    assert files(host) == [
        f"/run/{UNIT}.d/zz.conf changes {UNIT}, and nobody deployed it",
        f"{UNIT} changed on the disk since systemd read it",
    ]


def test_a_host_that_nothing_was_deployed_to(host: Path) -> None:
    (host / f"DEPLOYED/{UNIT}.json").unlink()
    (told,) = files(host)
    assert told.startswith(f"{UNIT} was never deployed here")


@pytest.fixture
def release(host: Path) -> Path:
    files = {"bin/hybrid-engine": "launch", "lib/hybrid_engine/model.py": "model"}
    digests = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in files.items()}
    digest = hashlib.sha256("".join(f"{path}\0{digests[path]}\n" for path in sorted(digests)).encode()).hexdigest()
    home = host / f"0.1.0-{digest[:12]}"
    compiled = {"lib/hybrid_engine/__pycache__/model.pyc": "code"}
    for path, text in {**files, **compiled}.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    sums = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in compiled.items()}
    (home / "release.json").write_text(json.dumps({"files": digests}))
    (home / "bytecode.json").write_text(json.dumps({"files": {**sums, "lib/none.pyc": None}}))
    (host / "CURRENT").symlink_to(home.name)
    put(host / "HISTORY", {**LINE, "changed": [f"{host}/CURRENT (missing)"]})
    return home


def of_release(home: Path) -> list[str]:
    """What is found, but for owners: these tests need not be root."""
    history, _ = state.entries(str(home.parent / "HISTORY"))
    found = [line.replace(f"{home}/", "") for line in state._release(history)]
    return [line for line in found if "others than root" not in line]


def test_a_release_as_it_was_built(release: Path) -> None:
    assert of_release(release) == []


def test_each_file_of_a_release_that_is_not_as_built_is_told(release: Path) -> None:
    (release / "lib/hybrid_engine/model.py").write_text("other")
    (release / "lib/hybrid_engine/__pycache__/model.pyc").write_text("other")
    (release / "bin/hybrid-engine").unlink()
    (release / "lib/json.py").write_text("")
    by = BY.replace("line 1", "line 2")
    assert of_release(release) == [
        f"bin/hybrid-engine is missing {by}",
        f"lib/hybrid_engine/__pycache__/model.pyc is altered {by}",
        f"lib/hybrid_engine/model.py is altered {by}",
        f"lib/json.py is not part of the release {by}",
    ]


def test_a_release_that_was_made_to_fit_is_not_what_its_name_says(release: Path) -> None:
    (release / "lib/hybrid_engine/model.py").write_text("other")
    listed = json.loads((release / "release.json").read_text())
    listed["files"]["lib/hybrid_engine/model.py"] = hashlib.sha256(b"other").hexdigest()
    (release / "release.json").write_text(json.dumps(listed))
    (told,) = of_release(release)
    assert told.startswith("release.json is altered")
    (release / "release.json").unlink()
    (told,) = of_release(release)
    assert "is no release" in told


def test_a_file_that_others_could_write_is_told(release: Path) -> None:
    (release / "lib/hybrid_engine/model.py").chmod(0o666)
    told = [line for line in state._release([]) if "model.py could be changed by others than root" in line]
    assert len(told) == 1


def test_a_host_that_a_proof_holds_is_not_looked_at(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "PROOF_LOCK").write_text("run r1, pid 7\n")
    assert state._proof() == "", "a lock that nobody holds"
    with (host / "PROOF_LOCK").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert state.main() == 0
    assert "a proof holds this host (run r1, pid 7)" in capsys.readouterr().out
