"""A proof that is killed, frozen or told to stop leaves the host as it was, and its evidence says ERROR, never PASS."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from proofs import evidence
from proofs.catalog import PROOFS
from tests.lab.labs import Lab
from tests.lab.proving import EVIDENCE, events, install, picture, strike

pytestmark = pytest.mark.lab
SEED = int(os.environ.get("PROOF_SEED") or random.randrange(10**6))
# Events of a proof's first seconds, in which it arms its lease, disturbs the unit and injects its first fault.
FIRST, LAST = 6, 60


@pytest.fixture(scope="module")
def installed(lab: Lab) -> Lab:
    install(lab)
    return lab


@pytest.fixture(scope="module")
def before(installed: Lab) -> dict[str, str]:
    return picture(installed)


def recorded_verdict(lab: Lab, run: str, tmp_path: Path) -> str:
    """The statement's verdict, and on the way: that the chain of the recording is whole."""
    copy = tmp_path / "events.jsonl"
    copy.write_text(lab.root("cat", f"{EVIDENCE}/{run}/events.jsonl").stdout)
    evidence.read(copy)
    statement = json.loads(lab.root("cat", f"{EVIDENCE}/{run}/statement.json").stdout)
    return str(statement["predicate"]["verdict"])


@pytest.mark.parametrize("name", PROOFS)
def test_killed_at_a_random_moment(installed: Lab, before: dict[str, str], tmp_path: Path, name: str) -> None:
    moment = random.Random(f"{SEED} {name}").randint(FIRST, LAST)
    print(f"PROOF_SEED={SEED}: {name} is killed after {moment} events")
    seen = strike(installed, name, f"killed-{name}", moment)
    assert seen >= moment
    assert picture(installed) == before
    assert recorded_verdict(installed, f"killed-{name}", tmp_path) in ("ERROR", "INCONCLUSIVE")


def test_killed_with_the_fault_in_force(installed: Lab, before: dict[str, str], tmp_path: Path) -> None:
    """The engine stands in state T, on a scratch database, when its tormentor dies."""
    strike(installed, "stall", "killed-late", 70)
    done = [event["data"] for event in events(installed, "killed-late") if event["kind"] == "undone"]
    assert [(report["by"], report["restored"]) for report in done] == [("ExecStopPost", True)]
    assert picture(installed) == before
    assert recorded_verdict(installed, "killed-late", tmp_path) == "ERROR"


def test_frozen_until_its_lease_ends(installed: Lab, before: dict[str, str], tmp_path: Path) -> None:
    strike(installed, "failover", "frozen", 50, "STOP", "--cap=5")
    done = [event["data"] for event in events(installed, "frozen") if event["kind"] == "undone"]
    assert [(report["by"], report["restored"]) for report in done] == [("timer", True)]
    assert picture(installed) == before
    assert recorded_verdict(installed, "frozen", tmp_path) == "ERROR"


def test_told_to_stop(installed: Lab, before: dict[str, str], tmp_path: Path) -> None:
    strike(installed, "sampling", "stopped", 40, "TERM")
    done = [event["data"] for event in events(installed, "stopped") if event["kind"] == "undone"]
    assert [(report["by"], report["restored"]) for report in done] == [("the proof itself", True)]
    assert picture(installed) == before
    assert recorded_verdict(installed, "stopped", tmp_path) == "ERROR"


def test_an_engine_that_did_not_run_is_left_so_and_its_database_untouched(installed: Lab, tmp_path: Path) -> None:
    digest = ("sh", "-c", "cd /var/lib/hybrid-engine && sha256sum *")
    installed.root("systemctl", "stop", "hybrid-engine.service")
    try:
        before, database = picture(installed), installed.root(*digest).stdout
        strike(installed, "stall", "inactive", 50)
        assert picture(installed) == before
        assert installed.root(*digest).stdout == database
    finally:
        installed.root("systemctl", "start", "hybrid-engine.service")
    assert recorded_verdict(installed, "inactive", tmp_path) == "ERROR"


def test_a_reboot_in_the_middle_takes_the_fault_with_it(installed: Lab, before: dict[str, str]) -> None:
    from tests.lab.proving import PROGRAM

    installed.root(PROGRAM, "run", "stall", "--run", "rebooted", "--no-wait")
    installed.kill()
    installed.boot()
    assert installed.root("systemctl", "cat", "hybrid-engine.service").stdout == before["cat"]
    assert installed.root("sh", "-c", "systemctl is-active --wait hybrid-engine.service").stdout.strip() == "active"
