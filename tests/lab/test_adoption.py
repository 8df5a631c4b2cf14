"""A host that runs somebody else's hybrid-engine.service: told of, taken over when asked, and given back."""

from __future__ import annotations

import re

import pytest

from tests.lab.deployment import CONFIG, DROPINS, ENGINE_ALONE, UNIT, fingerprint, history, pid, play
from tests.lab.labs import Lab, wait_for

pytestmark = pytest.mark.lab

HOME = "/opt/hybrid-trading-bot"
DEBUG, RELEASE = f"{HOME}/engine-rust/target/debug/engine-rust", f"{HOME}/engine-rust/target/release/engine-rust"
OVERRIDE = f"{DROPINS}/override.conf"
# As in the field notes of the first system.
NOTES_UNIT = f"""[Unit]
Description=Hybrid Trading Bot Engine (Rust)
After=network.target

[Service]
Type=simple
User=slimy
WorkingDirectory={HOME}
Environment=RUST_LOG=info
ExecStart={DEBUG}
Restart=always
RestartSec=2
Nice=10

[Install]
WantedBy=multi-user.target
"""
NOTES_OVERRIDE = f"""[Service]
# Phase 2.2.2: Switch to release binary (5.7MB vs 103MB debug)
ExecStart=
ExecStart={RELEASE}

# Phase 2.2.2: Honor typed exit codes (12=CONFIG should not restart)
Restart=on-failure
RestartPreventExitStatus=12
"""
# Keeps its database open, as the first system's engine did.
STAND_IN = f"""#!/usr/bin/python3
import sqlite3, time
con = sqlite3.connect("{HOME}/data/bot.db")
con.execute("CREATE TABLE IF NOT EXISTS ticks(id INTEGER PRIMARY KEY)")
while True:
    con.execute("INSERT INTO ticks DEFAULT VALUES")
    con.commit()
    time.sleep(0.2)
"""
PLACES = ("/etc/systemd", "/etc/hybrid-engine", f"{HOME}/engine-rust")


def write(lab: Lab, path: str, text: str) -> None:
    lab.root("sh", "-c", 'mkdir -p "${1%/*}"; printf %s "$2" > "$1"', "sh", path, text)


@pytest.fixture(scope="module")
def legacy(lab: Lab) -> Lab:
    lab.root("useradd", "--system", "--user-group", "--home-dir", HOME, "--shell", "/usr/sbin/nologin", "slimy")
    for program in (DEBUG, RELEASE):
        write(lab, program, STAND_IN)
        lab.root("chmod", "0755", program)
    lab.root("sh", "-c", f"mkdir -p {HOME}/data; chown slimy: {HOME}/data")
    write(lab, f"/etc/systemd/system/{UNIT}", NOTES_UNIT)
    write(lab, OVERRIDE, NOTES_OVERRIDE)
    lab.root("chmod", "0640", OVERRIDE)
    lab.root("sh", "-c", f"systemctl daemon-reload; systemctl enable --now {UNIT}")
    wait_for("the old engine", lambda: legacy_runs(lab))
    return lab


def legacy_runs(lab: Lab) -> bool:
    """Whether the process is the old engine's, by its program and user."""
    process = pid(lab)
    line = lab.root("ps", "-wwo", "user=,args=", "-p", str(process or 1), check=False).stdout
    return bool(process) and RELEASE in line and line.startswith("slimy")


def as_found(lab: Lab) -> str:
    looks = f"systemctl is-enabled {UNIT}; systemctl is-active {UNIT}; systemctl cat {UNIT}; getent passwd slimy"
    return fingerprint(lab, *PLACES) + lab.root("sh", "-c", looks, check=False).stdout


@pytest.mark.holds("ADOPTION")
def test_preflight_and_deploy_tell_what_is_there_and_touch_nothing(legacy: Lab) -> None:
    before, process = as_found(legacy), pid(legacy)
    for name in ("preflight", "deploy"):
        refused = play(legacy, name, check=False)
        assert refused.rc != 0
        said = (
            f"{UNIT} runs here: process {process} of slimy, /usr/bin/python3",
            f"by /etc/systemd/system/{UNIT}. It would be replaced",
            f"Its database {HOME}/data/bot.db would stay where it is",
            f"{OVERRIDE} changes it (ExecStart=, Restart=, RestartPreventExitStatus=), and would be taken out",
            "It runs as slimy, who would stay as is; the engine would run as hybrid-engine",
            "engine_adopt=true",
        )
        assert [text for text in said if text not in refused.text] == [], refused.text
    assert play(legacy, "deploy", "--check", "--diff", engine_adopt="true").rc == 0
    assert (as_found(legacy), pid(legacy)) == (before, process)
    assert legacy.root("sh", "-c", "ls -d /opt/hybrid-engine; id hybrid-engine", check=False).stdout == ""


@pytest.mark.holds("ADOPTION")
def test_engine_that_fails_at_the_switch_brings_the_old_one_back(legacy: Lab) -> None:
    """The candidate is healthy; in the old one's place the engine is not. That is not booked on the release."""
    before = as_found(legacy)
    place = "/var/lib/hybrid-engine"
    failed = play(
        legacy, "deploy", ENGINE_ALONE, check=False, engine_adopt="true", engine_db_path=f"{place}/no/hybrid.db"
    )
    assert failed.rc != 0
    assert "What was there before runs again" in failed.text
    assert "is void" not in failed.text
    assert legacy_runs(legacy)
    assert [line for line in as_found(legacy).splitlines() if line not in before.splitlines()] == []
    assert legacy.root("cat", "/var/lib/hybrid-deploy/releases.json", check=False).stdout.count("void") <= 1


@pytest.mark.holds("ADOPTION")
def test_there_and_back_by_rollback(legacy: Lab) -> None:
    before = as_found(legacy)
    deployed = play(legacy, "deploy", ENGINE_ALONE, engine_adopt="true", engine_drift_check="daily")
    assert deployed.rc == 0
    assert not legacy_runs(legacy)
    assert not legacy.root("ls", OVERRIDE, check=False).stdout
    play(legacy, "verify")
    assert play(legacy, "deploy", ENGINE_ALONE, engine_adopt="true", engine_drift_check="daily").changes == []
    play(legacy, "rollback", release="previous")
    wait_for("the old engine", lambda: legacy_runs(legacy))
    assert as_found(legacy) == before
    assert [history(legacy)[-1][key] for key in ("what", "of", "outcome")] == [
        "rollback",
        "to the service that was taken over",
        "done",
    ]
    refused = play(legacy, "rollback", check=False, release="adopted")
    assert refused.rc != 0


@pytest.mark.holds("ADOPTION")
def test_there_and_back_by_uninstall(legacy: Lab) -> None:
    before = as_found(legacy)
    play(legacy, "deploy", ENGINE_ALONE, engine_adopt="true")
    assert not legacy_runs(legacy)
    listed = play(legacy, "uninstall", "--check", "--diff", engine_state="absent")
    assert f"{OVERRIDE} (put back as it was)" in listed.out
    play(legacy, "uninstall", engine_state="absent")
    wait_for("the old engine", lambda: legacy_runs(legacy))
    assert as_found(legacy) == before
    again = play(legacy, "uninstall", engine_state="absent")
    assert f"/etc/systemd/system/{UNIT}: not put there by a deployment, so it stays" in again.text
    assert legacy_runs(legacy)


@pytest.mark.holds("ADOPTION")
def test_dropin_of_others_that_decides_what_runs_is_refused(legacy: Lab) -> None:
    """Where the engine is deployed: the candidate would not be what runs, and no release is to blame."""
    play(legacy, "deploy", ENGINE_ALONE, engine_adopt="true")
    process = pid(legacy)
    write(legacy, OVERRIDE, NOTES_OVERRIDE)
    refused = play(legacy, "deploy", ENGINE_ALONE, check=False, engine_sample_every=2)
    assert refused.rc != 0
    assert f"{OVERRIDE} sets ExecStart=: what would run is not what this deployment tries out" in refused.text
    assert pid(legacy) == process
    legacy.root("rm", OVERRIDE)
    legacy.root("systemctl", "daemon-reload")
    assert re.search("sample_every = 1\n", legacy.root("cat", CONFIG).stdout)


@pytest.mark.holds("ROLLBACK")
def test_dropin_of_the_operators_own_is_data(legacy: Lab) -> None:
    """Deployed, verified, rolled back, restored and taken out as those of the toolkit are."""
    path = f"{DROPINS}/60-mine.conf"
    own = ("-e", '{"engine_own_dropins": [{"name": "60-mine", "content": "[Service]\\nOOMScoreAdjust=200\\n"}]}')
    play(legacy, "deploy", ENGINE_ALONE, *own)
    assert legacy.root("cat", path).stdout == "[Service]\nOOMScoreAdjust=200\n"
    assert legacy.root("cat", f"/proc/{pid(legacy)}/oom_score_adj").stdout.strip() == "200"
    play(legacy, "verify")
    play(legacy, "rollback", dropin="60-mine")
    assert not legacy.root("ls", path, check=False).stdout
    play(legacy, "restore", dropin="60-mine")
    gone = own[1].replace('"name"', '"state": "absent", "name"')
    play(legacy, "deploy", ENGINE_ALONE, "-e", gone)
    assert not legacy.root("ls", path, check=False).stdout
    play(legacy, "verify")
