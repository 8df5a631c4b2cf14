"""What the drift program finds: how files and the live release differ from what was deployed."""

from __future__ import annotations

import fcntl
import getpass
import grp
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog.drift import FILE_IS
from tests.unit.plugins.loading import PLUGINS, module, shared

drift: Any = shared("drift")
append = module("deployment_history").append
UNIT = "hybrid-engine.service"
LINE = {"when": "2026-11-01T00:00:00.000Z", "what": "deploy", "outcome": "done", "by": "ann"}
SOURCE = "(line 1 of the history: deploy, 2026-11-01T00:00:00Z, by ann)"
ASSERTIONS = PLUGINS.parent / "tests/verify"


def about(path: Path, **more: str) -> dict[str, str]:
    """What a deployment records of a file."""
    mine = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name, "mode": "0644"}
    return mine | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} | more


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files and a link as a deployment left them, which is line 1 of the history."""
    for name in ("HISTORY", "DEPLOYED", "ROLLED_BACK", "CURRENT", "PROOF_LOCK"):
        monkeypatch.setattr(drift, name, str(tmp_path / name))
    monkeypatch.setattr(drift, "_show", lambda unit, *keys: {})
    (tmp_path / "DEPLOYED").mkdir()
    (tmp_path / f"{UNIT}.d").mkdir()
    files = [tmp_path / name for name in ("config.toml", UNIT, f"{UNIT}.d/40-hardening.conf")]
    for path in files:
        path.write_text(path.name)
        path.chmod(0o644)
    (tmp_path / "link").symlink_to("there")
    record = {"files": {str(path): about(path) for path in files}, "links": {str(tmp_path / "link"): "there"}}
    (tmp_path / f"DEPLOYED/{UNIT}.json").write_text(json.dumps(record))
    append_line(tmp_path, changed=[f"{path} (missing)" for path in [*files, tmp_path / "link"]])
    return tmp_path


def append_line(host: Path, **more: object) -> None:
    append(str(host / "HISTORY"), json.dumps({**LINE, **more}).encode())


def deployed(host: Path) -> list[tuple[str, str]]:
    history, _ = drift.read_history(str(host / "HISTORY"))
    return [(rule, text.replace(f"{host}/", "")) for rule, text in drift._deployed(history, UNIT)]


def test_deployed_state_is_no_drift(host: Path) -> None:
    assert deployed(host) == []


def test_each_difference_names_its_history_line(host: Path) -> None:
    before = hashlib.sha256(b"config.toml").hexdigest()
    after = hashlib.sha256(b"by hand").hexdigest()
    (host / "config.toml").write_text("by hand")
    (host / UNIT).chmod(0o666)
    (host / f"{UNIT}.d/40-hardening.conf").unlink()
    (host / "link").unlink()
    (host / "link").symlink_to("elsewhere")
    assert deployed(host) == [
        ("deployed files", f"config.toml: sha256 {after} where {before} was deployed {SOURCE}"),
        ("deployed files", f"{UNIT}: mode 0666 where 0644 was deployed {SOURCE}"),
        ("deployed files", f"{UNIT}.d/40-hardening.conf: missing {SOURCE}"),
        ("deployed links", f"link leads to elsewhere where there was deployed {SOURCE}"),
    ]


def test_another_kind_of_file_and_a_missing_user_are_drift(host: Path) -> None:
    (host / "config.toml").unlink()
    (host / "config.toml").mkdir()
    record = json.loads((host / f"DEPLOYED/{UNIT}.json").read_text())
    record["files"][str(host / UNIT)]["owner"] = "absent"
    (host / f"DEPLOYED/{UNIT}.json").write_text(json.dumps(record))
    assert [text for _, text in deployed(host)] == [
        f"config.toml: another kind of file was deployed {SOURCE}",
        f"{UNIT}: belongs to absent:{about(host / UNIT)['group']}, a user or group that is missing here {SOURCE}",
    ]


def test_rolled_back_dropin_is_drift_only_when_present(host: Path) -> None:
    (host / f"ROLLED_BACK/{UNIT}").mkdir(parents=True)
    (host / f"ROLLED_BACK/{UNIT}/40-hardening.conf").write_text("{}")
    text = f"{UNIT}.d/40-hardening.conf is rolled back, and there all the same: remove it, or restore it by name"
    assert deployed(host) == [("rolled-back drop-ins", text)]
    (host / f"{UNIT}.d/40-hardening.conf").unlink()
    assert deployed(host) == []


def test_unmanaged_dropins_and_unread_units_are_drift(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = f"/run/{UNIT}.d/zz.conf {host}/{UNIT}.d/40-hardening.conf /usr/lib/service.d/distribution.conf"
    shown = {"DropInPaths": paths, "NeedDaemonReload": "yes"}
    monkeypatch.setattr(drift, "_show", lambda unit, *keys: shown)
    unmanaged = f"unmanaged drop-ins are in force: /run/{UNIT}.d/zz.conf; remove them, or deploy them {SOURCE}"
    assert deployed(host) == [
        ("unmanaged drop-ins", unmanaged),
        ("unread units", f"{UNIT} changed on the disk since systemd read it: deploy, or systemctl daemon-reload"),
    ]


def test_drift_of_the_recorder_has_its_own_rule(host: Path) -> None:
    program = host / "hybrid-health-snapshot"
    record = {"files": {str(program): about(host / "config.toml")}}
    (host / "DEPLOYED/hybrid-health-snapshot.timer.json").write_text(json.dumps(record))
    assert deployed(host) == [("recorder", "hybrid-health-snapshot: missing (deployed before the history began)")]


def test_host_without_a_deployment_says_so(host: Path) -> None:
    (host / f"DEPLOYED/{UNIT}.json").unlink()
    ((rule, text),) = deployed(host)
    assert (rule, text.startswith(f"{UNIT} was never deployed here")) == ("deployed files", True)


@pytest.fixture
def release(host: Path) -> Path:
    files = {"bin/hybrid-engine": "launch", "lib/hybrid_engine/model.py": "model"}
    digests = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in files.items()}
    home = host / f"0.1.0-{drift.content_digest(digests)[:12]}"
    compiled = {"lib/hybrid_engine/__pycache__/model.pyc": "code"}
    for path, text in {**files, **compiled}.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
        (home / path).chmod(0o755 if path.startswith("bin/") else 0o644)
    sums = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in compiled.items()}
    (home / "release.json").write_text(json.dumps({"files": digests}))
    (home / "bytecode.json").write_text(json.dumps({"files": {**sums, "lib/none.pyc": None}}))
    (host / "CURRENT").symlink_to(home.name)
    append_line(host, changed=[f"{host}/CURRENT (missing)"])
    return home


@pytest.fixture(autouse=True)
def _owned_by_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests need not be root: their user stands for it."""
    owner = f"owner {os.getuid()}:{os.getgid()}"
    real = drift.ownership

    def ownership(status: os.stat_result, mode: int) -> str:
        return ", ".join(part for part in real(status, mode).split(", ") if part != owner)

    monkeypatch.setattr(drift, "ownership", ownership)


def of_release(home: Path) -> list[tuple[str, str]]:
    history, _ = drift.read_history(str(home.parent / "HISTORY"))
    found = [(rule, text.replace(f", in {home}", "")) for rule, text in drift._release(history)]
    return [(rule, text) for rule, text in found if rule != "release directories"]


def test_release_as_built_is_no_drift(release: Path) -> None:
    assert of_release(release) == []


def test_each_altered_file_of_a_release_is_named(release: Path) -> None:
    (release / "lib/hybrid_engine/model.py").write_text("other")
    (release / "lib/hybrid_engine/__pycache__/model.pyc").write_text("other")
    (release / "bin/hybrid-engine").unlink()
    (release / "lib/json.py").write_text("")
    (release / "lib/link").symlink_to("json.py")
    source = SOURCE.replace("line 1", "line 2")
    assert of_release(release) == [
        ("release contents", f"bin/hybrid-engine is not as it was built, but missing {source}"),
        ("release bytecode", f"lib/hybrid_engine/__pycache__/model.pyc is not as it was compiled {source}"),
        ("release contents", f"lib/hybrid_engine/model.py is not as it was built, but altered {source}"),
        ("release ownership", f"lib/json.py: not part of the release {source}"),
        ("release ownership", f"lib/link: not part of the release {source}"),
    ]


def test_release_with_a_forged_manifest_is_drift(release: Path) -> None:
    (release / "lib/hybrid_engine/model.py").write_text("other")
    manifest = json.loads((release / "release.json").read_text())
    manifest["files"]["lib/hybrid_engine/model.py"] = hashlib.sha256(b"other").hexdigest()
    (release / "release.json").write_text(json.dumps(manifest))
    ((_, text),) = of_release(release)
    assert text.startswith("release.json is missing, or lists another release")
    (release / "release.json").unlink()
    ((_, text),) = of_release(release)
    assert text.startswith("release.json is missing, or lists another release")


def test_release_file_with_another_mode_is_drift(release: Path) -> None:
    (release / "lib/hybrid_engine/model.py").chmod(0o666)
    ((rule, text),) = of_release(release)
    assert (rule, text.partition(" (")[0]) == ("release ownership", "lib/hybrid_engine/model.py: mode 0666")


def test_host_held_by_a_proof_is_not_compared(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "PROOF_LOCK").write_text("run r1, pid 7\n")
    assert drift._proof() == "", "a lock without a holder"
    with (host / "PROOF_LOCK").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert drift.main() == 0
    assert "a proof holds this host (run r1, pid 7)" in capsys.readouterr().out


def test_every_rule_is_an_assertion_of_verify() -> None:
    """A difference that no assertion reports would be found, and verify green all the same."""
    texts = "".join(path.read_text() for path in ASSERTIONS.glob("test_*.py"))
    asserted = set(re.findall(r'assert_none\(state, "(.+?)"\)', texts)) | {"user", "group"}  # the two parametrized
    assert 'parametrize("rule", ["user", "group"])' in texts
    assert asserted == set(drift.RULES)
    program = Path(drift.__file__).read_text()
    found = [*re.findall(r'Difference\(\s*(?:recorder or )?"(.+?)"', program), "recorder", "user", "group"]
    assert set(found) == set(drift.RULES)


def test_proof_of_drift_reads_these_words(host: Path, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host / "config.toml").write_text("by hand")
    (release / "lib/hybrid_engine/model.py").write_text("other")
    monkeypatch.setattr(
        drift, "_show", lambda unit, *keys: {"DropInPaths": f"/etc/{UNIT}.d/60-added.conf", "MainPID": "1"}
    )
    history, _ = drift.read_history(str(host / "HISTORY"))
    found = [*drift._deployed(history, UNIT), *drift._release(history), *drift._process(history, UNIT)]
    texts = {difference.rule: difference.text for difference in found}
    assert re.search(f"config.toml{FILE_IS}", texts["deployed files"])
    assert texts["unmanaged drop-ins"].startswith(f"unmanaged drop-ins are in force: /etc/{UNIT}.d/60-added.conf")
    assert texts["release contents"].startswith("lib/hybrid_engine/model.py is not as it was built")
    assert texts["directory"].startswith("the process works elsewhere than in its state directory")


def test_program_needs_only_the_standard_library() -> None:
    """The timer runs it as one file, also when no release works."""
    text = Path(drift.__file__).read_text()
    assert "ansible" not in re.findall(r"^(?:from|import) (\w+)", text, re.M)


@pytest.mark.parametrize(
    ("program", "argv", "cwd", "copy"),
    [
        ("/usr/bin/python3.11", "python3 /home/me/old/bin/hybrid-engine run", "/", True),
        ("/usr/bin/python3.11", "python3 -m hybrid_engine run", "/home/me", True),
        ("/usr/bin/python3.11", "python3 hybrid_engine/cli.py run", "/home/me", True),
        ("/usr/bin/python3.11", "python3 main.py", "/srv/hybrid_engine", True),
        ("/opt/old/hybrid-engine", "hybrid-engine", "/", True),
        ("/usr/bin/python3.11", "python3 /opt/hybrid-engine/current/bin/hybrid-engine health --json", "/", False),
        ("/usr/bin/python3.11", "python3 -m hybrid_engine config check", "/", False),
        ("/usr/bin/vim", "vim hybrid_engine/cli.py", "/home/me/hybrid_engine", False),
        ("/usr/bin/bash", "bash -c hybrid-engine run", "/", False),
        ("/usr/bin/python3.11", "python3 /opt/hybrid-proofs/current/bin/hybrid-proofs follow x", "/", False),
    ],
)
def test_copy_of_the_engine_is_recognised(program: str, argv: str, cwd: str, copy: bool) -> None:
    assert bool(drift.runs_engine(program, argv.split(), cwd)) is copy


def test_secret_arguments_of_a_copy_are_not_shown() -> None:
    words = ["python3", "/old/bin/hybrid-engine", "run", "--ws-url", "ws://me:pw@x"]
    assert drift.runs_engine("/usr/bin/python3", words, "/") == "/old/bin/hybrid-engine"


RUN = {"version": "0.1.0", "release_digest": "ab" * 32, "config_digest": "cd" * 32, "ended_ms": None}


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What `hybrid-engine health --json` prints."""
    output = [""]
    monkeypatch.setattr(drift, "_run", lambda *_: output[0])
    drift.running_values.cache_clear()
    yield output
    drift.running_values.cache_clear()


def test_running_values_are_those_of_the_newest_run(health: list[str]) -> None:
    health[0] = json.dumps({"healthy": False, "run": RUN})
    digests = {"release_digest": "ab" * 32, "config_digest": "cd" * 32}
    assert drift.running_values(UNIT) == {"release_name": "0.1.0-abababababab", **digests}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "{}", "[" * 99999, '{"run": null}', '{"run": {"ended_ms": null}}', '{"run": {"ended_ms": 1}}'),
        json.dumps({"run": RUN | {"ended_ms": 1}}),
        json.dumps({"run": RUN | {"release_digest": 5}}),
    ],
)
def test_any_answer_of_an_engine_is_survived(health: list[str], text: str) -> None:
    health[0] = text
    assert drift.running_values(UNIT) == {}


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_stands_in_place_of_the_history_is_named(host: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(drift, "_process", lambda *_: iter(()))
    monkeypatch.setattr(drift, "second_copies", lambda _: [])
    monkeypatch.setattr(drift, "_release", lambda _: iter(()))
    assert drift.find_drift(UNIT) == []
    (host / "HISTORY").rename(host / "target")
    if kind == "link":
        (host / "HISTORY").symlink_to(host / "target")
    elif kind == "fifo":
        os.mkfifo(host / "HISTORY")
    else:
        (host / "HISTORY").mkdir()
    (difference,) = drift.find_drift(UNIT)
    assert difference.text.startswith(f"{host}/HISTORY is a ")
    assert difference.text.endswith("where a file belongs, and was not opened")
