"""A proof that is refused has done nothing; one that is killed, frozen or told to stop leaves the host as it was, and
its evidence says ERROR, never PASS.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from proofs.catalog import PROOFS, REQUIRED
from tests.lab.deployment import UNIT, fingerprint
from tests.lab.labs import Lab, wait_for
from tests.lab.proof_runs import EVIDENCE, PROGRAM, events, picture, recorded_verdict, strike

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def before(installed: Lab) -> dict[str, str]:
    return picture(installed)


def test_plan_looks_and_does_nothing(installed: Lab) -> None:
    places = ("/etc", "/opt", "/run/systemd", EVIDENCE, "/run/hybrid-proofs", "/var/lib/hybrid-deploy")
    still, process = fingerprint(installed, *places), installed.root("pgrep", "-f", "hybrid-engine").stdout
    result = installed.root(PROGRAM, "plan").stdout
    for name in REQUIRED["lab"]:
        assert f"{name}: {PROOFS[name].claim}" in result
    assert "away from its real work" in result
    assert "NO " not in result
    assert fingerprint(installed, *places) == still
    assert installed.root("pgrep", "-f", "hybrid-engine").stdout == process


def test_one_proof_at_a_time(installed: Lab) -> None:
    installed.root(PROGRAM, "run", "stall", "--run", "first", "--no-wait")
    try:
        second = installed.root(PROGRAM, "run", "sampling", "--run", "second", check=False)
    finally:
        installed.root("systemctl", "stop", "hybrid-proof-first.service")
    assert second.returncode == 2
    assert "refused: " in second.stdout + second.stderr


@pytest.mark.parametrize("name", ["nonsense", "exit12,stall"])
def test_unknown_proof_is_refused_by_name(installed: Lab, name: str) -> None:
    result = installed.root(PROGRAM, "run", name, check=False)
    assert result.returncode == 2
    assert name in result.stderr
    assert "failover" in result.stderr


def test_refused_while_live(installed: Lab) -> None:
    place = "/run/systemd/system/hybrid-engine.service.d"
    script = f"mkdir -p {place} && printf '[Service]\\nEnvironment=HYBRID_ENGINE__MODE=LIVE\\n' > {place}/live.conf"
    installed.root("sh", "-c", f"{script} && systemctl daemon-reload")
    try:
        result = installed.root(PROGRAM, "run", "exit12", check=False)
        planned = installed.root(PROGRAM, "plan", "exit12", check=False)
    finally:
        installed.root("sh", "-c", f"rm -r {place} && systemctl daemon-reload")
    assert result.returncode == planned.returncode == 2
    assert "mode is not LIVE" in result.stderr
    assert "NO  mode is not LIVE" in planned.stdout


def test_kill_during_the_fault_is_undone(installed: Lab, before: dict[str, str], tmp_path: Path) -> None:
    """The engine stands in state T, on a scratch database, when its tormentor dies."""
    strike(installed, "stall", "killed-late", 70)
    outcome = [event["data"] for event in events(installed, "killed-late") if event["kind"] == "undone"]
    assert [(report["by"], report["restored"]) for report in outcome] == [("ExecStopPost", True)]
    assert picture(installed) == before
    assert recorded_verdict(installed, "killed-late", tmp_path) == "ERROR"


def test_kill_with_a_full_disk_is_undone(installed: Lab, before: dict[str, str], tmp_path: Path) -> None:
    strike(installed, "storage", "killed-full", 2, text='"argv": ["mount"')  # announced, and done
    seen = events(installed, "killed-full")
    assert [event for event in seen if event["kind"] == "command" and event["argv"][0] == "umount"]
    assert [event["data"]["restored"] for event in seen if event["kind"] == "undone"] == [True]
    assert picture(installed) == before
    assert recorded_verdict(installed, "killed-full", tmp_path) == "ERROR"


def test_frozen_proof_is_undone_by_its_lease(installed: Lab, before: dict[str, str], tmp_path: Path) -> None:
    # Others' daemon-reloads must not put off its end.
    reloading = "while sleep 0.5; do systemctl daemon-reload; done"
    installed.root("sh", "-c", f"timeout 60 sh -c '{reloading}' >/dev/null 2>&1 </dev/null &")
    strike(installed, "failover", "frozen", 30, "STOP", "--cap=8")
    installed.root("pkill", "-f", "^timeout 60 sh")
    outcome = [event["data"] for event in events(installed, "frozen") if event["kind"] == "undone"]
    assert [(report["by"], report["restored"]) for report in outcome] == [("timer", True)]
    assert picture(installed) == before
    assert recorded_verdict(installed, "frozen", tmp_path) == "ERROR"


def test_stopped_proof_is_undone(installed: Lab, before: dict[str, str], tmp_path: Path) -> None:
    strike(installed, "sampling", "stopped", 40, "TERM")
    outcome = [event["data"] for event in events(installed, "stopped") if event["kind"] == "undone"]
    assert [(report["by"], report["restored"]) for report in outcome] == [("the proof itself", True)]
    assert picture(installed) == before
    assert recorded_verdict(installed, "stopped", tmp_path) == "ERROR"


def test_kill_with_a_masked_dropin_is_undone(installed: Lab, before: dict[str, str], tmp_path: Path) -> None:
    """The mask outranks /etc: left behind, the operator's unit would run without that drop-in until the next boot."""
    unit, mask = "hybrid-proof-masked.service", f"/run/systemd/system.control/{UNIT}.d/20-resources.conf"
    installed.root(PROGRAM, "run", "rollback", "--run", "masked", "--no-wait")
    wait_for("the mask", lambda: installed.root("test", "-L", mask, check=False).returncode == 0, 60)
    installed.root("systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit)
    wait_for("the undo", lambda: any(event["kind"] == "undone" for event in events(installed, "masked")), 60)
    wait_for("its end", lambda: picture(installed) == before, 30)
    outcome = [event["data"] for event in events(installed, "masked") if event["kind"] == "undone"]
    assert [(report["by"], report["restored"], report["problems"]) for report in outcome] == [
        ("ExecStopPost", True, [])
    ]
    undo = next(event for event in events(installed, "masked") if event["scope"] == "rollback/undo")
    assert mask in undo["data"]["files"]
    assert recorded_verdict(installed, "masked", tmp_path) == "ERROR"


def test_stopped_engine_stays_stopped(installed: Lab, tmp_path: Path) -> None:
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


def test_power_cut_is_undone_after_boot(installed: Lab, before: dict[str, str], tmp_path: Path) -> None:
    installed.root(PROGRAM, "run", "stall", "--run", "rebooted", "--no-wait")
    path = f"{EVIDENCE}/rebooted/events.jsonl"
    wait_for("the fault", lambda: '"stdout": "fault: ' in installed.root("cat", path, check=False).stdout, 60)
    installed.kill()
    installed.boot()
    wait_for("the undo after the boot", lambda: any(e["kind"] == "undone" for e in events(installed, "rebooted")), 60)
    undone = [event["data"] for event in events(installed, "rebooted") if event["kind"] == "undone"]
    assert [(data["by"], data["restored"], data["problems"]) for data in undone] == [("boot", True, [])]
    assert recorded_verdict(installed, "rebooted", tmp_path) == "ERROR"
    assert installed.root("systemctl", "cat", "hybrid-engine.service").stdout == before["cat"]
    assert installed.root("systemctl", "is-active", "hybrid-engine.service").stdout.strip() == "active"
