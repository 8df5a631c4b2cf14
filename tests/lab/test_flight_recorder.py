"""The flight recorder on a host: deployed with the engine, in force, bounded, and taken out again; and diagnose."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from proofs.catalog._checks import imbalance
from proofs.host.diagnose import PARTS
from tests.lab.deployment import UNIT, PlayResult, fingerprint, play
from tests.lab.labs import Lab, wait_for

pytestmark = pytest.mark.lab
NAME = "hybrid-health-snapshot"
FOLDER = f"/var/lib/{NAME}"
USER = "hybrid-flight-recorder"
USER_TASK = "Ensure the flight recorder's system user exists"
TASK = f"Install the timer and its service: {NAME}"
JOURNALD = "/etc/systemd/journald.conf.d/60-hybrid-engine.conf"
PLACES = ("/etc", "/opt", "/usr/local", "/var/lib/hybrid-deploy")


@pytest.fixture(scope="module")
def diagnosed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[PlayResult, str]:
    """A diagnosis of a host that nothing was ever deployed to: what was told, and the file."""
    folder = tmp_path_factory.mktemp("diagnosis")
    before = fingerprint(lab, *PLACES)
    result = play(lab, "diagnose", flight_recorder_evidence=folder)
    assert fingerprint(lab, *PLACES) == before
    (diagnosis,) = folder.rglob("diagnosis-*.txt")
    return result, diagnosis.read_text()


@pytest.fixture(scope="module")
def deployed(lab: Lab, diagnosed: object) -> PlayResult:
    return play(lab, "deploy")


def test_undeployed_host_is_diagnosed(diagnosed: tuple[PlayResult, str]) -> None:
    result, text = diagnosed
    for number, title in enumerate(PARTS, 1):
        assert f"{number}/{len(PARTS)} {title}" in result.out, "its progress is told"
        assert f"--- {number}. {title} ---" in text
    assert "changed=0" in result.out
    assert re.search(r"^cpu:some avg10=", text, re.M)
    assert re.search(r"^\d+ processes, \d+ of them used CPU", text, re.M), "an idle host may have used none at all"
    missing = text.partition("--- what was missing ---")[2]
    assert "bin/hybrid-engine config check: not there" in missing
    assert "iostat -x 1 2: not there (apt-get install sysstat)" in missing
    assert "cannot be compared" not in missing
    assert "\r" not in text


def test_host_without_dbus_is_refused(lab: Lab) -> None:
    """The service's user could not ask systemd how the service is."""
    lab.root("mv", "/run/dbus/system_bus_socket", "/run/dbus/away")
    result = play(lab, "preflight", check=False)
    lab.root("mv", "/run/dbus/away", "/run/dbus/system_bus_socket")
    assert result.rc != 0
    assert "apt-get install dbus" in result.text


def newest(lab: Lab) -> dict[str, Any]:
    result = lab.root(f"/usr/local/libexec/{NAME}", "--show", "1").stdout
    record: dict[str, Any] = json.loads(result)
    return record


def show(lab: Lab, unit: str, *names: str) -> list[str]:
    result = lab.root("systemctl", "show", "--value", *(f"--property={name}" for name in names), unit).stdout
    return [line for line in result.splitlines() if line]


@pytest.mark.holds("RECORDER")
def test_deploy_and_timer_take_records(lab: Lab, deployed: PlayResult) -> None:
    record = newest(lab)
    assert record["health"] == {"healthy": True, "failed": {}}
    assert record["engine"]["ActiveState"] == "active"
    assert record["run"]["admitted"] > 0
    assert imbalance(record["run"]) == 0
    assert record["psi"]["unit"]["cpu"]["some"][3] >= 0
    # Whether a cgroup's memory is accounted is the outer machine's business; everything else has to be known.
    assert [entry for entry in record["missing"] if not entry.startswith("memory of unit")] == []
    assert show(lab, f"{NAME}.timer", "ActiveState", "UnitFileState") == ["active", "enabled"]
    assert "OnCalendar=*-*-* *:00/5:00" in "".join(show(lab, f"{NAME}.timer", "TimersCalendar"))
    assert lab.root("stat", "-c", "%U:%G %a", FOLDER).stdout.split() == [f"{USER}:hybrid-engine", "750"]


def test_record_of_a_stopped_engine(lab: Lab, deployed: PlayResult) -> None:
    """Stopped cleanly, the database has no files beside it: none may appear, and its verdict has to be the true one."""
    lab.root("systemctl", "stop", UNIT)
    try:
        before = fingerprint(lab, "/var/lib/hybrid-engine")
        lab.root("systemctl", "start", f"{NAME}.service")
        record = newest(lab)
        assert record["health"]["healthy"] is False
        assert record["health"]["failed"]["unit"] == f"{UNIT}: inactive (dead)"
        assert "ended with exit code 0" in record["health"]["failed"]["running"]
        assert fingerprint(lab, "/var/lib/hybrid-engine") == before
        assert "not healthy" in lab.root("journalctl", "-u", NAME, "-n", "5", "-o", "cat").stdout
    finally:
        lab.root("systemctl", "start", UNIT)
    wait_for("a record of a healthy engine", lambda: healthy(lab))


def healthy(lab: Lab) -> bool:
    lab.root("systemctl", "start", f"{NAME}.service")
    return bool(newest(lab)["health"]["healthy"])


def recorder(lab: Lab, *words: str, check: bool = True, **variables: object) -> PlayResult:
    """A deployment's part that is the recorder, which is all that these tests are about."""
    return play(lab, "deploy", "--tags=flight_recorder", *words, check=check, **variables)


def test_recorder_drift_is_named_and_healed(lab: Lab, deployed: PlayResult) -> None:
    before = fingerprint(lab, *PLACES)
    drop = f"/etc/systemd/system/{NAME}.service.d/40-hardening.conf"
    lab.root("rm", drop)
    lab.root("systemctl", "disable", "--now", f"{NAME}.timer")
    assert fingerprint(lab, *PLACES) != before
    red = play(lab, "verify", check=False)
    failed = set(re.findall(r"FAILED tests/verify/(\S+)", red.text))
    names = ("test_its_files_are_as_deployed", "test_the_timer_runs_and_its_record_is_new")
    assert failed == {f"test_recorder.py::{name}" for name in names}, red.out
    healed = recorder(lab, "--diff")
    assert (healed.changes, healed.paths) == ([TASK], [drop])
    assert fingerprint(lab, *PLACES) == before
    again = recorder(lab, "--diff")
    assert (again.changes, again.paths) == ([], [])
    assert "changed=0" in again.out


def owners(lab: Lab) -> set[str]:
    return set(lab.root("find", FOLDER, "-printf", "%u\n").stdout.split())


@pytest.mark.holds("RECORDER")
def test_recorder_of_the_engines_user_is_given_one_of_its_own(lab: Lab, deployed: PlayResult) -> None:
    """As earlier deployments left it: the engine could end it, and write to its records."""
    script = (
        f"systemctl stop {NAME}.timer; userdel {USER}; chown -R hybrid-engine {FOLDER};"
        f" sed -i 's/^User=.*/User=hybrid-engine/' /etc/systemd/system/{NAME}.service;"
        f" systemctl daemon-reload; systemctl start {NAME}.service {NAME}.timer"
    )
    lab.root("sh", "-c", script)
    checked = recorder(lab, "--check", "--diff")
    assert (checked.changes, owners(lab)) == ([USER_TASK, TASK], {"hybrid-engine"})
    assert recorder(lab, "--diff").changes == [USER_TASK, TASK]
    assert (owners(lab), newest(lab)["health"]["healthy"]) == ({USER}, True)
    assert recorder(lab, "--diff").changes == []
    lab.root("systemd-run", "--quiet", "--unit=recorder", f"--uid={USER}", "--gid=hybrid-engine", "sleep", "60")
    process = show(lab, "recorder.service", "MainPID")[0]
    kill = ("setpriv", "--reuid=hybrid-engine", "--regid=hybrid-engine", "--clear-groups", "kill", process)
    assert "not permitted" in lab.root(*kill, check=False).stderr
    lab.root("systemctl", "stop", "recorder")


def test_exposed_or_failing_recorder_is_not_installed(lab: Lab, deployed: PlayResult) -> None:
    before = fingerprint(lab, *PLACES)
    exposed = recorder(lab, check=False, systemd_service_exposure=0.1, flight_recorder_keep_days=3)
    assert exposed.rc != 0
    assert "scores 0.5 in systemd-analyze security where 0.1 is allowed, nothing was replaced" in exposed.text
    broken = recorder(lab, check=False, flight_recorder_program="/usr/local/libexec/split\there")
    assert broken.rc != 0
    assert "What was there before is back" in broken.text
    assert "can't open file '/usr/local/libexec/split'" in broken.text, "what the service said"
    assert fingerprint(lab, *PLACES) == before
    assert show(lab, f"{NAME}.timer", "ActiveState", "UnitFileState") == ["active", "enabled"]


def test_removal_keeps_the_records(lab: Lab, deployed: PlayResult) -> None:
    recorder(lab, flight_recorder_journald_state="present", flight_recorder_journald_max_use="300M")
    assert "SystemMaxUse=300M" in lab.root("cat", JOURNALD).stdout
    assert "max 300" in lab.root("journalctl", "-u", "systemd-journald", "-n", "20", "-o", "cat").stdout
    out = recorder(lab, flight_recorder_state="absent")
    assert out.changes == [TASK]
    left = lab.root("sh", "-c", f"find /etc /usr/local /run/systemd -name '*{NAME}*' -o -path {JOURNALD}").stdout
    assert left == ""
    assert show(lab, f"{NAME}.timer", "LoadState") == ["not-found"]
    assert lab.root("ls", FOLDER).stdout
    assert recorder(lab, flight_recorder_state="absent").changes == []
